"""A decoder in Flax NNX (Llama, Mistral, Qwen2, Qwen3), its files, sampler and tokenizer."""

from pgpo_jax.models._chat import (
    render_chat as render_chat,
    render_messages as render_messages,
)
from pgpo_jax.models._config import DecoderConfig as DecoderConfig, Qwen3Config as Qwen3Config
from pgpo_jax.models._convert import convert_gguf as convert_gguf
from pgpo_jax.models._decoder import Decoder as Decoder, Qwen3 as Qwen3
from pgpo_jax.models._layers import (
    LayerWeights as LayerWeights,
    check_attention as check_attention,
)
from pgpo_jax.models._load import (
    absolute_model as absolute_model,
    load_pretrained as load_pretrained,
)
from pgpo_jax.models._lora import (
    LORA_TARGETS as LORA_TARGETS,
    averaged_deltas as averaged_deltas,
    init_lora as init_lora,
    merged as merged,
    with_deltas as with_deltas,
    with_lora as with_lora,
    zero_deltas as zero_deltas,
)
from pgpo_jax.models._muon import muon_dimension_numbers as muon_dimension_numbers
from pgpo_jax.models._params import abstract_params as abstract_params, shardings as shardings
from pgpo_jax.models._rope import RopeScaling as RopeScaling
from pgpo_jax.models._row_steps import (
    RowSteps as RowSteps,
    counted_row_steps as counted_row_steps,
)
from pgpo_jax.models._sample import Samples as Samples, sample as sample
from pgpo_jax.models._save import save_pretrained as save_pretrained
from pgpo_jax.models._shapes import (
    PUBLISHED_SHAPES as PUBLISHED_SHAPES,
    QWEN3_SHAPES as QWEN3_SHAPES,
)
from pgpo_jax.models._sharding import (
    SHARDING_RULES as SHARDING_RULES,
    abstract_mesh as abstract_mesh,
    make_mesh as make_mesh,
    partition_spec as partition_spec,
)
from pgpo_jax.models._step_weights import StepWeights as StepWeights, step_weights as step_weights
from pgpo_jax.models._tokenizer import (
    decode as decode,
    encode as encode,
    load_tokenizer as load_tokenizer,
)
from pgpo_jax.models.gguf import is_gguf as is_gguf
