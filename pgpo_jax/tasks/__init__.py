"""Questions, prompts and grading. Text of a model is never interpreted as anything else."""

from pgpo_jax._files import is_object_spec as is_object_spec, load_object as load_object
from pgpo_jax.tasks._absolute import (
    absolute_grader as absolute_grader,
    absolute_object as absolute_object,
    absolute_task as absolute_task,
    spec_without_place as spec_without_place,
)
from pgpo_jax.tasks._contexts import (
    CONTEXTS as CONTEXTS,
    Context as Context,
    explained_chat as explained_chat,
    explanation_prompt as explanation_prompt,
)
from pgpo_jax.tasks._diagnostics import (
    HESITATION_WORDS as HESITATION_WORDS,
    hesitation_count as hesitation_count,
    pass_at_k as pass_at_k,
)
from pgpo_jax.tasks._experience import (
    experience_items as experience_items,
    experience_prompt as experience_prompt,
)
from pgpo_jax.tasks._grading import Grade as Grade, extract_answer as extract_answer, grade as grade
from pgpo_jax.tasks._load import is_synthetic as is_synthetic, load_questions as load_questions
from pgpo_jax.tasks._load_task import held_out_spec as held_out_spec, load_task as load_task
from pgpo_jax.tasks._prompts import (
    strip_thinking as strip_thinking,
    teacher_prompt as teacher_prompt,
)
from pgpo_jax.tasks._question import Message as Message, Question as Question
from pgpo_jax.tasks._second_turn import (
    critique_request as critique_request,
    second_turn as second_turn,
)
from pgpo_jax.tasks._solutions import select_solutions as select_solutions
from pgpo_jax.tasks._task import Task as Task
from pgpo_jax.tasks._tasks import FileTask as FileTask, SyntheticTask as SyntheticTask
from pgpo_jax.tasks.graders import (
    GRADERS as GRADERS,
    Grader as Grader,
    GraderConfig as GraderConfig,
    exact as exact,
    grade_all as grade_all,
    make_grader as make_grader,
)
from pgpo_jax.tasks.sources import (
    ColumnsConfig as ColumnsConfig,
    load_sciknoweval as load_sciknoweval,
)
