"""What samples responses: the protocol, and vLLM's server by a stand-in for it."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgpo_jax.cli import main
from pgpo_jax.models import Samples, init_lora, load_pretrained, with_lora
from pgpo_jax.training import (
    EngineConfig,
    RolloutRequest,
    Sampler,
    SamplingParams,
    Trainer,
    VLLMServer,
    make_engine,
    make_trainer,
)
from tests.training.conftest import VOCAB, replaced
from tests.training.test_train import SMALL

EOS, PAD = 7, 0
PROMPTS = [[5, 6], [8], [9, 1, 2]]


class StandIn:
    """Answers as vLLM does. Tokens follow from the seed.

    `change` edits a completion before it is sent; `status` answers a path with another code.
    """

    def __init__(self):
        self.asked: list[tuple[str, Any]] = []
        self.models = ["policy"]
        self.change: Callable[[dict], Any] = lambda answer: answer
        self.status: dict[str, tuple[int, Any]] = {}
        self.wait = 0.0

    def answer(self, path, body):
        self.asked.append((path, body))
        if path in self.status:
            return self.status[path]
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": name} for name in self.models]}
        if path in ("/collective_rpc", "/reset_prefix_cache"):
            return 200, None
        time.sleep(self.wait)
        choices = []
        # In no particular order.
        for index in reversed(range(body["n"])):
            end, longest = body["stop_token_ids"][0], body["max_tokens"]
            ids = self.tokens(body["prompt"], body["seed"] + index, longest, end)
            logprobs = [-0.5 - 0.01 * place for place in range(len(ids))]
            choice = {
                "index": index,
                "text": "not read",
                "finish_reason": "stop" if ids[-1] == end else "length",
                "token_ids": ids,
                "prompt_token_ids": body["prompt"],
                "logprobs": {"token_logprobs": logprobs} if "logprobs" in body else None,
            }
            choices.append(choice)
        return 200, self.change({"object": "text_completion", "choices": choices})

    def tokens(self, prompt, seed, longest, end=EOS):
        length = 1 + seed % (2 * longest)
        ids = [10 + (sum(prompt) + place) % 20 for place in range(length - 1)] + [end]
        return ids[:longest]


@pytest.fixture
def server():
    """A running stand-in and its address."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def respond(self, body):
            code, value = stand_in.answer(self.path, body)
            text = b"" if value is None else value if type(value) is bytes else json_bytes(value)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(code)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        def do_GET(self):
            self.respond(None)

        def do_POST(self):
            self.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_):
            pass

    def json_bytes(value):
        return json.dumps(value).encode()

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    stand_in.url = f"http://127.0.0.1:{running.server_port}"
    yield stand_in
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(scope="module")
def model(small_model):
    return nnx.merge(*small_model)


def request(model, *, seed=0, **sampling):
    width = max(map(len, PROMPTS))
    tokens = np.array([[PAD] * (width - len(ids)) + ids for ids in PROMPTS], np.int32)
    mask = np.array([[place >= width - len(ids) for place in range(width)] for ids in PROMPTS])
    params = SamplingParams(**({"samples": 2, "max_new_tokens": 6, "temperature": 1.0} | sampling))
    keys = jax.random.split(jax.random.key(seed), len(PROMPTS) * params.samples)
    return RolloutRequest(model, tokens, mask, keys, (EOS,), PAD, params)


def of(server, path):
    return [body for asked, body in server.asked if asked == path]


def test_our_sampler_is_the_default_and_takes_lanes(model):
    assert make_engine(EngineConfig()) == Sampler()
    whole = Sampler().generate(request(model))
    lanes = Sampler(max_num_seqs=2).generate(request(model))
    np.testing.assert_array_equal(whole.tokens, lanes.tokens)
    assert not np.array_equal(Sampler().generate(request(model, seed=1)).tokens, whole.tokens)


def test_responses_come_back_by_prompt_and_sample(server, model, tmp_path):
    engine = VLLMServer(server.url, tmp_path / "weights")
    assert engine.model == "policy"
    out = engine.generate(request(model))
    assert isinstance(out, Samples)
    assert out.tokens.shape == out.logprobs.shape == out.mask.shape == (6, 6)
    asked = {tuple(body["prompt"]): body for body in of(server, "/v1/completions")}
    # Without the padding.
    assert sorted(asked) == sorted(map(tuple, PROMPTS))
    for row in range(6):
        body = asked[tuple(PROMPTS[row // 2])]
        ids = server.tokens(body["prompt"], body["seed"] + row % 2, 6)
        assert np.asarray(out.tokens)[row].tolist() == ids + [PAD] * (6 - len(ids))
        assert np.asarray(out.mask)[row].sum() == len(ids)
        told = [-0.5 - 0.01 * place for place in range(len(ids))] + [0.0] * (6 - len(ids))
        np.testing.assert_allclose(np.asarray(out.logprobs)[row], told, rtol=1e-6)
    body = asked[5, 6]
    assert {name: body[name] for name in ("n", "max_tokens", "top_k", "stop_token_ids")} == {
        "n": 2, "max_tokens": 6, "top_k": -1, "stop_token_ids": [EOS],
    }  # fmt: skip
    # The same keys give the same seeds, which differ between prompts; other keys give others.
    seeds = {body["seed"] for body in asked.values()}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**62 for seed in seeds)
    server.asked.clear()
    engine.generate(request(model))
    assert {body["seed"] for body in of(server, "/v1/completions")} == seeds
    server.asked.clear()
    engine.generate(request(model, seed=1))
    assert not {body["seed"] for body in of(server, "/v1/completions")} & seeds


def test_new_weights_are_handed_over_once(server, model, tmp_path):
    folder = tmp_path / "weights"
    engine = VLLMServer(server.url, folder, dtype="float32")
    assert not folder.exists()
    engine.generate(request(model))
    engine.generate(request(model, seed=1))
    load = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
    assert of(server, "/collective_rpc") == [load]
    # Before the first prompt, and prompts that were read by former weights are forgotten.
    order = [path for path, _ in server.asked if path != "/v1/models"]
    assert order[:2] == ["/collective_rpc", "/reset_prefix_cache"]
    graphdef, params = nnx.split(model, nnx.Param)
    held = nnx.split(load_pretrained(folder), nnx.Param)[1]
    jax.tree.map(np.testing.assert_array_equal, held, params)
    moved = nnx.merge(graphdef, jax.tree.map(lambda x: x + 1, params))
    engine.generate(request(moved))
    assert of(server, "/collective_rpc") == [load] * 2
    held = nnx.split(load_pretrained(folder), nnx.Param)[1]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), held, params)


def test_adapted_kernels_are_handed_over_as_their_sum(server, model, tmp_path):
    graphdef, params = nnx.split(model, nnx.Param)
    factors = jax.tree.map(lambda x: x + 0.1, init_lora(params, 2, key=jax.random.key(1)))
    adapted = with_lora(params, factors, 0.5)
    engine = VLLMServer(server.url, tmp_path, dtype="float32")
    engine.generate(request(nnx.merge(graphdef, adapted)))
    held = nnx.split(load_pretrained(tmp_path), nnx.Param)[1]
    kernel = params["layers"]["q_proj"].get_value()
    pair = factors["q_proj"]
    want = kernel + 0.5 * jnp.matmul(pair["a"].get_value(), pair["b"].get_value())
    np.testing.assert_allclose(held["layers"]["q_proj"].get_value(), want, atol=1e-6)
    assert jnp.abs(want - kernel).max() > 0.01


def test_a_load_that_failed_is_tried_again(server, model, tmp_path):
    engine = VLLMServer(server.url, tmp_path)
    server.status["/collective_rpc"] = (500, {"error": {"message": "no such\nfile"}})
    with pytest.raises(RuntimeError, match="/collective_rpc answered 500: no such file"):
        engine.generate(request(model))
    assert not of(server, "/v1/completions")
    del server.status["/collective_rpc"]
    engine.generate(request(model))
    assert len(of(server, "/collective_rpc")) == 2


def changed(**values):
    """Edits the first choice of an answer."""

    def change(answer):
        answer["choices"][0] |= values
        return answer

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(token_ids=None), "no token_ids: .*0.10.2"),
        (changed(token_ids=[VOCAB, EOS]), rf"another vocabulary: .*\[0, {VOCAB}\), got {VOCAB}"),
        (changed(token_ids=[]), "must have 1 to 6 tokens, got 0"),
        (changed(token_ids=[9] * 7), "must have 1 to 6 tokens, got 7"),
        (changed(token_ids=[9, 9]), r"must end by one of the tokens \[7\].*by 9 after 2"),
        (changed(token_ids=[EOS, 9, 9]), r"must end by one of the tokens \[7\].*by 9 after 3"),
        (changed(logprobs=None), "no log-probabilities"),
        (changed(token_ids=[9, EOS], logprobs={"token_logprobs": [-1.0]}), "each of 2 tokens.*1"),
        (changed(token_ids=[EOS], logprobs={"token_logprobs": [None]}), "finite.*got None"),
        (changed(token_ids=[EOS], logprobs={"token_logprobs": [0.1]}), "at most 0, got 0.1"),
        (changed(index=0), "must have 2 responses to the prompt, got 2"),
        (changed(prompt_token_ids=[5]), "read another prompt than it was sent"),
        (lambda answer: {"choices": answer["choices"][:1]}, "must have 2 responses.*got 1"),
        (lambda answer: {"text": "hi"}, "no list of choices"),
        (lambda answer: b"<html>", "did not answer with JSON: <html>"),
    ],
)
def test_what_is_no_answer_is_refused(server, model, tmp_path, change, message):
    engine = VLLMServer(server.url, tmp_path)
    engine.generate(request(model))
    server.change = change
    with pytest.raises(RuntimeError, match=message) as raised:
        engine.generate(request(model))
    assert server.url in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_server_that_does_not_answer(server, model, tmp_path):
    with pytest.raises(RuntimeError, match=r"127.0.0.1:1/v1/models cannot be reached: .*refused"):
        VLLMServer("http://127.0.0.1:1", tmp_path)
    with pytest.raises(ValueError, match="must be like http://host:8000, got 'localhost:8000'"):
        VLLMServer("localhost:8000", tmp_path)
    engine = VLLMServer(server.url, tmp_path, timeout=0.5)
    server.wait = 2.0
    with pytest.raises(RuntimeError, match=r"gave no answer within 0.5 seconds"):
        engine.generate(request(model))


def test_the_model_that_is_served(server, tmp_path):
    with pytest.raises(ValueError, match=r"must be a model that .* serves \(policy\), got 'other'"):
        VLLMServer(server.url, tmp_path, model="other")
    server.models = ["policy", "draft"]
    with pytest.raises(ValueError, match=r"must name one of .* serves \(policy, draft\), got None"):
        VLLMServer(server.url, tmp_path)
    assert VLLMServer(server.url, tmp_path, model="draft").model == "draft"


def test_a_server_without_the_paths_that_load_weights(server, model, tmp_path):
    server.status["/collective_rpc"] = (404, {"detail": "Not Found"})
    engine = VLLMServer(server.url, tmp_path)
    with pytest.raises(RuntimeError, match=r"answered 404: .*VLLM_SERVER_DEV_MODE=1"):
        engine.generate(request(model))


@pytest.mark.parametrize(
    ("mode", "sampling", "refused"),
    [
        ("raw_logprobs", {"temperature": 0.7}, "temperature must be 1 with.*got 0.7"),
        ("raw_logprobs", {"temperature": 0.7, "logprobs": False}, None),
        ("raw_logprobs", {"temperature": 0.0}, None),
        ("raw_logprobs", {"top_p": 0.5, "top_k": 3}, None),
        ("processed_logprobs", {"temperature": 0.7}, None),
        ("processed_logprobs", {"temperature": 0.0}, "temperature must be positive.*got 0.0, 1"),
        ("processed_logprobs", {"top_p": 0.5}, "top_p 1 and.*got 1.0, 0.5, None"),
        ("processed_logprobs", {"top_k": 3}, "top_k None.*got 1.0, 1.0, 3"),
    ],
)
def test_log_probabilities_of_another_distribution(
    server, model, tmp_path, mode, sampling, refused
):
    engine = VLLMServer(server.url, tmp_path, logprobs_mode=mode)
    if refused:
        with pytest.raises(ValueError, match=refused):
            engine.generate(request(model, **sampling))
        assert not of(server, "/collective_rpc")
        return
    out = engine.generate(request(model, **sampling))
    asked = sampling.get("logprobs", True)
    assert bool((np.asarray(out.logprobs) < 0).any()) == asked


@pytest.mark.parametrize(
    ("mode", "good", "bad", "rule"),
    [
        ("raw_logprobs", {"top_p": 0.9}, {"temperature": 0.7}, "temperature must be 1 .* got 0.7"),
        ("processed_logprobs", {"temperature": 0.7}, {"top_p": 0.9}, "top_p 1 .* got 1.0, 0.9"),
    ],
)
def test_a_run_whose_log_probabilities_cannot_be_told_is_no_run(mode, good, bad, rule):
    engine = {"name": "vllm", "folder": "weights", "logprobs_mode": mode}
    with pytest.raises(ValueError, match=rule):
        replaced(SMALL, engine=engine, rollout=bad)
    # Negative controls: what the server can tell, and our sampler, which tells all.
    assert replaced(SMALL, engine=engine, rollout=good).engine.name == "vllm"
    assert replaced(SMALL, engine={"logprobs_mode": mode}, rollout=bad).engine.name == "sampler"


def test_engines_by_name(server, tmp_path):
    settings = EngineConfig(name="vllm", url=server.url, folder=str(tmp_path))
    assert isinstance(make_engine(settings), VLLMServer)
    assert make_engine(EngineConfig(), 4) == Sampler(max_num_seqs=4)
    own = tmp_path / "own.py"
    own.write_text(
        "class Own:\n    def __init__(self, settings): self.url = settings.url\n"
        "    def generate(self, request): return None\n"
        "def nothing(settings): return settings.url\n"
    )
    assert make_engine(EngineConfig(name=f"{own}:Own", url="x")).url == "x"
    with pytest.raises(TypeError, match="an object with a method generate, got 'x'"):
        make_engine(EngineConfig(name=f"{own}:nothing", url="x"))
    with pytest.raises(ValueError, match=r"one of \['sampler', 'vllm'\] or FILE.py:NAME.*'sgl'"):
        make_engine(EngineConfig(name="sgl"))
    with pytest.raises(ValueError, match=r"max_num_seqs must be None with engine.name 'vllm'.*4"):
        make_engine(settings, 4)
    with pytest.raises(ValueError, match=r"EngineConfig.folder must be given.*got None"):
        EngineConfig(name="vllm")
    with pytest.raises(ValueError, match=r"EngineConfig.timeout must be positive and finite"):
        EngineConfig(timeout=0.0)


def test_trainer_and_evaluation_sample_through_the_engine(server, tmp_path):
    engine = {"name": "vllm", "url": server.url, "folder": str(tmp_path / "weights")}
    trainer = make_trainer(replaced(SMALL, engine=engine, rollout={"micro_batch": 1}))
    batch, responses = trainer.respond(trainer.initial_state)
    asked = of(server, "/v1/completions")
    assert [body["prompt"] for body in asked] == batch.prompts
    assert (responses.logprobs[responses.mask] < 0).all()
    assert responses.mask.any(axis=1).all()
    # Of two parts and the same weights.
    assert len(of(server, "/collective_rpc")) == 1
    trainer.evaluate(trainer.initial_state)
    held_out = of(server, "/v1/completions")[len(asked) :]
    assert held_out
    assert not any("logprobs" in body for body in held_out)
    assert all("logprobs" in body for body in asked)
    assert len(of(server, "/collective_rpc")) == 1
    # The control: our sampler asks no server.
    count = len(server.asked)
    ours = make_trainer(SMALL)
    assert ours.engine == Sampler()
    ours.respond(ours.initial_state)
    assert len(server.asked) == count


def test_the_command_line_samples_through_the_engine(server, tmp_path, capsys):
    flags = ["--engine.name", "vllm", "--engine.url", server.url, "--engine.folder", str(tmp_path)]
    wanted = ["--questions", "4", "--batch", "2", "--samples", "2", "--temperature", "0.6"]
    assert main(["eval", *wanted, *flags]) == 0
    assert capsys.readouterr().out.startswith("avg@2 ")
    assert main(["sample", "--samples", "3", *flags]) == 0
    assert capsys.readouterr().out.count("--- answer") == 3
    assert len(of(server, "/v1/completions")) == 5
    assert main(["eval", *wanted, *flags, "--max-num-seqs", "2"]) != 0
    assert "max_num_seqs must be None with engine.name 'vllm'" in capsys.readouterr().err
    assert main(["eval", *wanted, "--mesh.fsdp", "2", "--max-num-seqs", "3"]) != 0
    assert "--max-num-seqs must be divisible by mesh.data * mesh.fsdp = 2, got 3" in (
        capsys.readouterr().err
    )


def test_an_engine_decides_how_much_it_decodes_at_a_time():
    lanes = replaced(SMALL, rollout={"max_num_seqs": 2})
    parts, settings = lanes.build(), lanes.trainer_settings()
    assert settings["engine"] == Sampler(max_num_seqs=2)
    with pytest.raises(ValueError, match=r"max_num_seqs must be None where an engine is given.*2"):
        Trainer(*parts, **settings | {"engine": Sampler()})
    with pytest.raises(TypeError, match="an object with a method generate, got <class"):
        Trainer(*parts, **settings | {"rollout": SMALL.rollout, "engine": Sampler})
    with pytest.raises(ValueError, match=r"max_num_seqs must be None with engine.name 'own.py:E'"):
        replaced(lanes, engine={"name": "own.py:E"})


@pytest.mark.slow
def test_a_run_answers_the_same_with_lanes_and_a_mesh():
    config = replaced(SMALL, rollout={"questions": 4, "samples": 4, "row_buckets": 1})
    whole = make_trainer(config)
    _, all_at_once = whole.respond(whole.initial_state)
    for sizes, lanes in (({}, 3), ({"fsdp": 2, "tensor": 2}, 4)):
        some = make_trainer(replaced(config, mesh=sizes, rollout={"max_num_seqs": lanes}))
        _, responses = some.respond(some.initial_state)
        np.testing.assert_array_equal(responses.tokens, all_at_once.tokens)
        np.testing.assert_allclose(responses.logprobs, all_at_once.logprobs, atol=2e-5)
    # The control: another step has other questions and other random numbers.
    later = whole.initial_state._replace(step=whole.initial_state.step + 1)
    assert (whole.respond(later)[1].tokens != all_at_once.tokens).any()
