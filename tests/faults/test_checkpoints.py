"""Checkpoints that were changed or damaged after they were written."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from orbax.checkpoint import v1 as ocp

from pgpo_jax.training import Checkpoints, TrainState
from pgpo_jax.training.run._digest import digests

# Orbax leaves its other reads behind when one fails; it is chance when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
KERNEL = "params/kernel"
RECORD = "_CHECKPOINT_METADATA"


def state_of(step):
    rng = np.random.default_rng(step)

    def random(*shape):
        return jnp.asarray(rng.normal(size=shape).astype(np.float32))

    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params={
            "kernel": random(2, 4, 4),
            "gain": random(4),
            "half": random(3).astype(jnp.bfloat16),
        },
        teacher={"kernel": random(2, 4, 4)},
        opt_state={"count": jnp.asarray(step, jnp.int32), "flag": jnp.asarray(True)},
        skipped=jnp.zeros((), jnp.int32),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    with Checkpoints(folder, inputs={"seed": 7}) as checkpoints:
        for step in (6, 12):
            checkpoints.save(state_of(step))
    return folder


@pytest.fixture
def folder(written, tmp_path):
    shutil.copytree(written, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def restored(folder):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(state_of(0))


def same(state, other):
    leaves = zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def rewrite(folder, change, *, digest=None, record=None):
    """Writes the arrays of step 12 anew with a change, and their former record beside them."""
    if record is None:
        record = json.loads((folder / "12" / RECORD).read_text())["custom_metadata"]
    with ocp.training.Checkpointer(folder) as checkpointer:
        abstract = checkpointer.checkpointables_metadata(12).metadata["state"]
        single = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=single)
            for name, leaf in abstract.items()
        }
        arrays = checkpointer.load_checkpointables(12, {"state": abstract})["state"]
        arrays = {name: np.array(array) for name, array in arrays.items()}
        change(arrays)
        shutil.rmtree(folder / "12")
    with ocp.training.Checkpointer(folder) as checkpointer:
        if digest is not None:
            arrays["digest"] = digest(arrays)
        custom = record if digest is None else None
        checkpointer.save_checkpointables(12, {"state": arrays}, force=True, custom_metadata=custom)


def swap_values(arrays):
    flat = arrays[KERNEL].reshape(-1)
    flat[[3, 7]] = flat[[7, 3]]


def swap_rows(arrays):
    arrays[KERNEL][0][[0, 1]] = arrays[KERNEL][0][[1, 0]]


def reverse_layers(arrays):
    arrays[KERNEL] = arrays[KERNEL][::-1].copy()


def transpose(arrays):
    arrays[KERNEL] = np.ascontiguousarray(arrays[KERNEL].swapaxes(1, 2))


def opposite_bits(arrays):
    bits = arrays[KERNEL].reshape(-1).view(np.uint32)
    bits[3] += 1
    bits[7] -= 1


def exchange_student_and_teacher(arrays):
    arrays[KERNEL], arrays["teacher/kernel"] = arrays["teacher/kernel"], arrays[KERNEL]


REORDERED = [swap_values, swap_rows, reverse_layers, transpose, opposite_bits]


def former_sums(arrays):
    """The digest of former versions: the sum of the bits of each array."""
    sizes = {1: np.uint8, 2: np.uint16, 4: np.uint32}
    return np.array(
        [
            arrays[name]
            .reshape(-1)
            .view(sizes[arrays[name].dtype.itemsize])
            .astype(np.uint32)
            .sum()
            for name in sorted(arrays)
        ],
        np.uint32,
    )


def test_what_was_saved_is_restored(folder):
    assert same(restored(folder), state_of(12))
    record = json.loads((folder / "12" / RECORD).read_text())["custom_metadata"]
    assert record["inputs"] == {"seed": 7}
    assert len(record["arrays"][KERNEL]) == 8
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.inputs() == {"seed": 7}


@pytest.mark.parametrize("change", [*REORDERED, exchange_student_and_teacher])
def test_numbers_in_another_order_are_found(folder, change):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=r"checkpoint 12 in .* other bits in params/kernel than"):
        restored(folder)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "bfloat16", "float16", "int32", "float32", "float64"]
)
def test_a_digest_sees_every_bit_of_every_type_and_all_else(dtype, x64):
    zeros = jnp.zeros((2, 3), dtype)
    raw = np.zeros(6 * zeros.dtype.itemsize, np.uint8)
    seen = [digests({"a": zeros}, purpose="")["a"]]
    for place in range(len(raw)):
        raw[place] ^= 1
        array = jnp.asarray(raw.view(zeros.dtype).reshape(2, 3))
        seen.append(digests({"a": array}, purpose="")["a"])
        raw[place] ^= 1
    # Name, shape and purpose.
    seen.append(digests({"b": zeros}, purpose="")["b"])
    seen.append(digests({"a": zeros.reshape(3, 2)}, purpose="")["a"])
    seen.append(digests({"a": zeros}, purpose="of step 1")["a"])
    assert len(set(seen)) == len(seen) == len(raw) + 4
    assert digests({"a": zeros}, purpose="")["a"] == seen[0]


def test_a_digest_is_the_same_on_any_mesh():
    array = jnp.arange(64.0).reshape(8, 8)
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    found = {
        digests({"a": jax.device_put(array, NamedSharding(mesh, P(*axes)))}, purpose="")["a"]
        for axes in ((), ("x",), ("y", "x"), (None, ("x", "y")))
    }
    assert found == {digests({"a": array}, purpose="")["a"]}
    # Negative control: one number is another one.
    assert digests({"a": array.at[7, 7].add(1)}, purpose="")["a"] not in found


def test_a_key_has_a_digest():
    keys = [{"key": jax.random.key(seed)} for seed in (0, 1)]
    assert digests(keys[0], purpose="") != digests(keys[1], purpose="")


def test_a_checkpoint_that_was_rewritten_as_it_was_is_restored(folder):
    """Negative control of the test above."""
    rewrite(folder, lambda arrays: None)
    assert same(restored(folder), state_of(12))


def no_flag(arrays):
    # The former sum knew no booleans.
    del arrays["opt_state/flag"]


def restored_former(folder):
    template = state_of(0)._replace(opt_state={"count": jnp.zeros((), jnp.int32)})
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.inputs() is None
        return checkpoints.restore(template)


def test_a_checkpoint_with_a_former_digest_is_restored(folder):
    rewrite(folder, no_flag, digest=former_sums)
    assert same(restored_former(folder).params, state_of(12).params)


def test_a_former_digest_does_not_see_another_order(folder):
    """Negative control: it was a sum, which is why it was replaced."""

    def swapped(arrays):
        digest = former_sums(arrays)
        swap_values(arrays)
        return digest

    rewrite(folder, no_flag, digest=swapped)
    assert not same(restored_former(folder).params, state_of(12).params)


def test_a_former_digest_still_finds_a_changed_bit(folder):
    def changed(arrays):
        digest = former_sums(arrays)
        arrays[KERNEL].reshape(-1).view(np.uint32)[5] ^= 1
        return digest

    rewrite(folder, no_flag, digest=changed)
    with pytest.raises(ValueError, match=r"other bits in params/kernel"):
        restored_former(folder)


def test_a_checkpoint_of_a_version_without_digests_is_restored_with_a_warning(folder, caplog):
    rewrite(folder, lambda arrays: None, record={})
    assert same(restored(folder), state_of(12))
    assert caplog.text.count("was made by a version that wrote no digests") == 1
    # Negative control: one that had them, and lost them.
    rewrite(folder, lambda arrays: None, record={"inputs": {}})
    with pytest.raises(ValueError, match=r"lacks its digests"):
        restored(folder)


def test_a_folder_that_was_renamed_is_refused(folder):
    (folder / "12").rename(folder / "13")
    with pytest.raises(ValueError, match=r"checkpoint 13 in .* holds the state of step 12"):
        restored(folder)
    (folder / "13").rename(folder / "12")
    assert same(restored(folder), state_of(12))


def delete(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def damage(path):
    path.write_bytes(b"{")


@pytest.mark.parametrize(
    ("harm", "file", "told"),
    [
        (delete, "state/_METADATA", r"state/_METADATA is missing"),
        (delete, "state/manifest.ocdbt", r"state/manifest\.ocdbt is missing"),
        (delete, "state/d", r"state/d is missing"),
        (delete, "state", r"12/state is missing"),
        (delete, RECORD, r"lacks its digests, which are in the file _CHECKPOINT_METADATA"),
        (damage, "state/_METADATA", r"a file in .*12/state is missing or damaged: _METADATA"),
        (
            damage,
            "state/manifest.ocdbt",
            r"damaged: _METADATA, _sharding, manifest\.ocdbt",
        ),
        (damage, RECORD, r"lacks its digests, which are in the file _CHECKPOINT_METADATA"),
    ],
)
def test_files_that_are_missing_or_damaged_are_named(folder, harm, file, told):
    harm(folder / "12" / file)
    with pytest.raises(ValueError, match=told + r".* goes on from step 6$"):
        restored(folder)
    # As the message says.
    shutil.rmtree(folder / "12")
    assert same(restored(folder), state_of(6))


def test_an_older_checkpoint_is_not_taken_unasked_when_there_is_no_other(folder):
    shutil.rmtree(folder / "6")
    (folder / "12" / "state" / "_METADATA").unlink()
    with pytest.raises(ValueError, match=r"If it is damaged: .* there is no other"):
        restored(folder)


def test_a_record_of_another_kind_is_named(folder):
    path = folder / "12" / RECORD
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"custom_metadata": [1]}))
    with pytest.raises(ValueError, match="cannot be listed: a _CHECKPOINT_METADATA in one of them"):
        Checkpoints(folder)
    # The control: as it was, it opens.
    path.write_text(json.dumps(record))
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest == 12
