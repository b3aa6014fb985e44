"""Names of tasks and graders that are valid in any current folder."""

from pgpo_jax._files import is_object_spec
from pgpo_jax.paths import local_path
from pgpo_jax.tasks._load import is_synthetic
from pgpo_jax.tasks.sources import is_data_set


def absolute_task(spec: str) -> str:
    """The name of a task in a form that does not depend on the current folder.

    Args:
        spec: a name for `load_task`. A file and FILE.py:NAME get an absolute path. A synthetic
            source and a data set of the Hub keep their names.

    Raises:
        ValueError: as `local_path`.

    >>> absolute_task("synthetic:physics"), absolute_task("hf:org/name:main")
    ('synthetic:physics', 'hf:org/name:main')

    Added in version 0.2.0.
    """
    if is_synthetic(spec):
        return spec
    if is_object_spec(spec):
        return absolute_object(spec)
    path = local_path(spec, "a task")
    if not spec.strip() or (is_data_set(spec) and not path.exists()):
        return spec
    return str(path.resolve())


def absolute_object(spec: str) -> str:
    """`FILE.py:NAME` with an absolute path; any other name does not change.

    >>> absolute_object("sdpo")
    'sdpo'

    Added in version 0.2.0.
    """
    if not is_object_spec(spec):
        return spec
    path, _, name = spec.rpartition(":")
    return f"{local_path(path, spec).resolve()}:{name}"


def absolute_grader(spec: str) -> str:
    """The name of a grader, or of several with weights, with absolute paths of files.

    A path with a comma or an equals sign does not change, because it could not be read back.

    >>> absolute_grader("exact=0.8,letter=0.2")
    'exact=0.8,letter=0.2'

    Added in version 0.2.0.
    """
    parts = []
    for part in spec.split(","):
        name, equals, weight = part.rpartition("=")
        name, weight = (name, equals + weight) if equals else (part, "")
        absolute = absolute_object(name.strip()) if is_object_spec(name.strip()) else name
        parts.append((name if set(",=") & set(absolute) else absolute) + weight)
    return ",".join(parts)


def spec_without_place(spec: str) -> str:
    """The name of a task, objective or grader without the folders of its files.

    >>> spec_without_place("exact=0.8,/a/rewards.py:brevity=0.2")
    'exact=0.8,:brevity=0.2'

    Added in version 0.2.0.
    """
    parts = []
    for part in spec.split(","):
        path, colon, name = part.rpartition(":")
        parts.append(f":{name}" if colon and path.endswith(".py") else part)
    return ",".join(parts)
