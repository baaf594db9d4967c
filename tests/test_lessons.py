"""The lessons: their texts, the command, and the checks, which let right answers pass and say of wrong ones what is wrong."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygan.cli import main
from tinygan.teaching.lessons import LESSONS, LessonError, catalogue, check, lesson
from tinygan.teaching.lessons.running import answers_in, verdict_on

ROOT = Path(__file__).parents[1]
ANSWERS = Path(__file__).parent / "lesson_answers"
EVERY = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


def model_answers(number):
    return ANSWERS / f"lesson_{number}.py"


def verdict(number, name, source):
    """What the check says of an answer, in this process. The source is added to the model answers."""
    answers = types.ModuleType("answers")
    text = model_answers(number).read_text(encoding="utf-8") + "\n\n" + source
    exec(compile(text, "my_answer.py", "exec"), vars(answers))
    (exercise,) = [exercise for exercise in lesson(number).exercises() if exercise.name == name]
    return verdict_on(exercise, answers, Path("my_answer.py"))


@EVERY
def test_right_answers_pass(lesson, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setitem(sys.modules, "answers", None)
    path = model_answers(lesson.number)
    answers = answers_in(path)
    exercises = lesson.exercises()
    assert len(exercises) == 3
    assert [verdict_on(exercise, answers, path) for exercise in exercises] == [None] * 3


WRONG = [
    # lesson 1
    (1, "sigmoid_vjp", "def sigmoid_vjp(g, y): return y * (1 - y)", r"g=-3, y=0\.2689\): found 0\.196612, expected -0\.589836"),
    (1, "sigmoid_vjp", "def sigmoid_vjp(g, y): return g * (1 - y**2)", r"found 0\.75, expected 0\.25"),
    (1, "sigmoid_vjp", "def sigmoid_vjp(g, y): g * y * (1 - y)", r"returned nothing \(None\)"),
    (1, "sigmoid_vjp", "def sigmoid_vjp(g): return g", r"is called as sigmoid_vjp\(g, y\), with 2 arguments.*too many"),
    (1, "sigmoid_vjp", "sigmoid_vjp = 0.25", r"should be a function, sigmoid_vjp\(g, y\)\. Found 0\.25"),
    (1, "sigmoid_vjp", "def sigmoid_vjp(g, y): return 'a'", r"should be a number, an array or a Tensor\. Found 'a'"),
    (1, "sigmoid_vjp", "def sigmoid_vjp(g, y): return float('nan')", r"found nan, expected 0\.25"),
    (1, "sigmoid_vjp", "del sigmoid_vjp", r"my_answer\.py does not define sigmoid_vjp\. The exercise asks for sigmoid_vjp\(g, y\)"),
    (1, "sigmoid_vjp", "def sigmoid_vjp(g, y): return g / (y - y)", r"sigmoid_vjp raised ZeroDivisionError in line \d+: "),
    (1, "sigmoid_vjp", "def sigmoid_vjp(g, y): raise SystemExit(0)", r"sigmoid_vjp raised SystemExit in line \d+: 0"),
    (1, "neuron_gradients", "def neuron_gradients(w, x, b, t): return 0.0", r"should return 3 values: dL/dw, dL/dx, dL/db\. Found 0\.0"),
    (1, "neuron_gradients", "def neuron_gradients(w, x, b, t): return 1, 2", r"should return 3 values: .*\. Found 2\."),
    (1, "neuron_gradients", "def neuron_gradients(w, x, b, t): return 1, 2, 3", r"dL/dw has the shape \(\), expected \(2,\)"),
    (1, "twice", "def twice(w, x): return (1 - np.tanh(w * np.tanh(w * x)) ** 2) * np.tanh(w * x)", "one of the two places only"),
    # lesson 2
    (2, "log_cosh", "def log_cosh(x): return x", r"should be an op, made with @tg\.op\. Found a value of type function"),
    (2, "log_cosh", "@tg.op\ndef log_cosh(B, x): return x", r"log_cosh has no vjp"),
    (2, "log_cosh", "@tg.op(saves=(0,))\ndef log_cosh(B, x): return B.xp.log(B.xp.cosh(x))\n"
                    "@log_cosh.vjp\ndef _(needs, g, x): return (tg.mul(g, tg.tanh(x)),)", r"log_cosh\(\[-800, 800\]\).*found inf, expected 799\.3"),
    (2, "log_cosh", "@log_cosh.vjp\ndef _(needs, g, x): return (tg.mul(g, tg.sign(x)),)", "The values of log_cosh are right, but not its vjp: "
                    "the gradient with respect to input 0"),
    (2, "log_cosh", "@log_cosh.vjp\ndef _(needs, g, x): return (tg.mul(g, tg.detach(tg.tanh(x))),)", "the gradient of the gradient"),
    (2, "distance", "@distance.vjp\ndef _(needs, g, a, b): return tg.mul(g, a), tg.mul(g, b)", "the gradient with respect to input 0"),
    (2, "reverse", "@reverse.vjp\ndef _(needs, g): return (g,)", r"gradient of sum\(reverse\(x\)\^2\).*found -6, expected 6"),
    (2, "reverse", "@reverse.vjp\ndef _(needs, g): return (tg.neg(tg.detach(g)),)", "is a constant to tg.grad"),
    # lesson 3
    (3, "smoothed_loss", "def smoothed_loss(r, f, target): return tg.mean(tg.softplus(-r)) + tg.mean(tg.softplus(f))",
     r"smoothed_loss\(\[0\.5, -1\.0\], .*, 0\.9\): found .*, expected"),
    (3, "smoothed_loss", "def smoothed_loss(r, f, t):\n    D, E = tg.sigmoid(r), tg.sigmoid(f)\n"
     "    return -tg.mean(t * tg.log(D) + (1 - t) * tg.log(1 - D)) - tg.mean(tg.log(1 - E))", r"\[-1000\.0, 1000\.0\].*found (nan|inf)"),
    (3, "smoothed_loss", "def smoothed_loss(r, f, t): return smoothed_number\nsmoothed_number = 1.0", "should be a Tensor, so that"),
    (3, "one_round", "def one_round(G, D, g_optimizer, d_optimizer, reals, d_noises, g_noise): pass", "After a round with 1 update of D, the weights of G are as before"),
    (3, "one_round", "right = one_round\ndef one_round(G, D, a, b, reals, d_noises, g_noise): right(G, D, a, b, reals[:1], d_noises[:1], g_noise)",
     r"After a round with 3 updates of D, D's 0\.weight.*found"),
    (3, "one_round", "right = one_round\ndef one_round(G, D, a, b, reals, d_noises, g_noise): right(G, D, a, b, reals, d_noises, d_noises[0])",
     r"After a round with 1 update of D, G's"),
    (3, "best_discriminator", "def best_discriminator(p, q, n, m): return p / (p + q)", r"128, 32\).*found .*, expected"),
    # lesson 4
    (4, "generator_gradients", "right = generator_gradients\ndef generator_gradients(G, D, z): return right(G, D, z)[1]", r"should return 2 values: arrows, gradients\. Found 4"),
    (4, "generator_gradients", "def generator_gradients(G, D, z):\n    x = tg.Tensor(G(z).detach(), requires_grad=True)\n"
     "    a = tg.grad(tg.mean(tg.softplus(-D(x))), x)\n    return a, tg.grad(G(z), G.parameters(), a)", r"are right\. But G ran 2 times"),
    (4, "generator_gradients", "def generator_gradients(G, D, z):\n    tg.mean(tg.softplus(-D(G(z)))).backward()\n"
     "    return 0, [p.grad for p in G.parameters()]", r"weights have a \.grad"),
    (4, "discriminator_gradients", "def discriminator_gradients(G, D, real, z):\n"
     "    return tg.grad(tg.mean(tg.softplus(-D(real))) + tg.mean(tg.softplus(D(G(z)))), D.parameters())", "G ran with a graph"),
    (4, "discriminator_gradients", "def discriminator_gradients(G, D, real, z):\n    with tg.no_grad(): fake = G(z)\n"
     "    return tg.grad(tg.mean(tg.softplus(D(fake))), D.parameters())", r"the gradient of 0\.weight"),
    (4, "both_players", "right = both_players\ndef both_players(G, D, real, z):\n    g, d = right(G, D, real, z)\n    return [-a for a in g], d", r"for G.*opposite sign"),
    (4, "generator_gradients", "def generator_gradients(G, D, z):\n    x = G(z)\n    return tg.grad(tg.mean(-tg.log(D(x))), x), "
     "tg.grad(tg.mean(tg.softplus(-D(G(z)))), G.parameters())", r"the arrows .*logit, not a probability"),
    (4, "generator_gradients", "right = generator_gradients\ndef generator_gradients(G, D, z):\n    arrows, _ = right(G, D, z)\n"
     "    return arrows, tg.grad(tg.mean(tg.softplus(-D(tg.detach(G(z))))), G.parameters())", "0 everywhere, as in pass 5"),
    (4, "both_players", "right = both_players\ndef both_players(G, D, real, z):\n    g, d = right(G, D, real, z)\n    return g, g", "Whose weights are these"),
    (4, "both_players", "right = both_players\ndef both_players(G, D, real, z): return right(G, D, real, z)[0], right(G, D, real, z)[1]", "G ran 2 times, and the backward pass came to it 2"),
    # lesson 5
    (5, "slopes", "def slopes(f):\n    D = 1 / (1 + np.exp(-f))\n    return -D, -(1 - D), np.exp(f)", r"slopes\(\[-3\.0, 0\.0, 1\.5\]\): maximum likelihood"),
    (5, "slopes", "def slopes(f):\n    D = np.exp(f) / (1 + np.exp(f))\n    return -D, -(1 - D), -np.exp(f)", r"slopes\(\[-800\.0, 800\.0\]\): minimax at \[1\]: found nan"),
    (5, "logit_for_ratio", "def logit_for_ratio(r): return np.log(r)", r"logit_for_ratio\(10\): found 2\.30\d+\. At this logit, .* is 0\.1 times the minimax slope, expected 10"),
    (5, "saturation", "def saturation(cost): return 1.0", "saturation of the cost minimax: found 1, expected 9"),
    # lesson 6
    (6, "modes_covered", "def modes_covered(points, centres, sigma): return len(centres)", r"the points with x > 0\.5 only: found 8, expected 3"),
    (6, "modes_covered", "def modes_covered(points, centres, sigma):\n    d = np.abs(points[:, None] - centres).max(2)\n    return (d <= 3 * sigma).any(0).sum()", "three points"),
    (6, "effective_modes", "def effective_modes(counts):\n    p = counts / counts.sum()\n    return np.exp(-(p * np.log(p)).sum())", r"effective_modes\(\[7, 0, 0, 93\]\): found nan"),
    (6, "best_response", "def best_response(f, c): return np.exp(f) / np.exp(f).sum()", r"gets smaller if a little of all the probabilities goes to place 2"),
    (6, "best_response", "def best_response(f, c): return np.ones(4)", "should be probabilities"),
    (6, "best_response", "def best_response(f, c): return np.eye(4)[2]", r"1\): found \[0\.0, 0\.0, 1\.0, 0\.0\]"),
    # lesson 7
    (7, "similarity", "right = similarity\ndef similarity(m): return right(m) + 1", "the point itself"),
    (7, "similarity", "def similarity(m): return np.exp(-((m[:, None] - m) ** 2).sum(-1)).sum(1) - 1", r"found .*, expected"),
    (7, "cross_talk_share", "def cross_talk_share(D, x): return 0.0", "with minibatch discrimination: found 0, expected"),
    (7, "look_ahead", "def look_ahead(d_loss, g_loss, theta, fake, rate, K):\n    fake = tg.Tensor(fake, requires_grad=True)\n"
     "    for _ in range(K):\n        leaf = tg.Tensor(theta, requires_grad=True)\n"
     "        theta = theta - rate * tg.grad(d_loss(leaf, fake), leaf).numpy()\n    return tg.grad(g_loss(tg.Tensor(theta), fake), fake)",
     "K = 1.*theta_K as a constant"),
    # lesson 8
    (8, "forward", "right = forward\ndef forward(x, w, s): return right(x, w[::-1, ::-1], s)", r"stride 1 at \[.*\]: found"),
    (8, "forward", "right = forward\ndef forward(x, w, s): return right(x, w, 1)", r"stride 2 has the shape \(5, 5\), expected \(3, 3\)"),
    (8, "input_gradient", "right = input_gradient\ndef input_gradient(g, w, shape, s): return right(g, w[::-1, ::-1], shape, s)", "found"),
    (8, "weight_gradient", "right = weight_gradient\ndef weight_gradient(x, g, shape, s): return right(x, g, shape, s).T", "weight_gradient of x"),
    # lesson 9
    (9, "r1", "right = r1\ndef r1(D, real): return 2 * right(D, real)", r"r1\(D, real\): found .*, expected"),
    (9, "r1", "def r1(D, real):\n    x = tg.Tensor(real, requires_grad=True)\n    g = tg.grad(tg.sum(D(x)), x)\n    return tg.mean(tg.sum(g * g, axis=1)) / 2",
     "is a constant to tg.grad"),
    (9, "gradient_penalty", "right = gradient_penalty\ndef gradient_penalty(D, real, fake, e): return right(D, fake, real, e)", "found .*, expected"),
    (9, "unrolled_gradients", "right = unrolled_gradients\ndef unrolled_gradients(*a): return right(*a)[::-1]", "with psi_K as a constant: found"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("number", "name", "source", "message"), WRONG, ids=[f"{n}-{name}-{i}" for i, (n, name, *_) in enumerate(WRONG)])
def test_wrong_answers_are_told_what_is_wrong(number, name, source, message):
    found = verdict(number, name, source)
    assert found is not None and re.search(message, found, re.DOTALL), found


def test_every_exercise_has_wrong_answers_in_the_table():
    assert {(n, name) for n, name, *_ in WRONG} == {(x.number, e.name) for x in LESSONS for e in x.exercises()}


# The process that runs the answers


def test_the_command_tells_which_answers_are_right(capfd):
    assert main(["lesson", "check", "1", str(model_answers(1)), "--seconds", "300"]) == 0
    assert capfd.readouterr().out == "sigmoid_vjp: right\nneuron_gradients: right\ntwice: right\n3 of 3 right\n"


def test_a_loop_and_a_crash_end_only_themselves(tmp_path, capfd):
    file = tmp_path / "my_answer.py"
    file.write_text("import os\nprint('hello')\ndef sigmoid_vjp(g, y):\n    while True: pass\n"
                    "def neuron_gradients(w, x, b, t): os._exit(3)\ndef twice(w, x): return 1 / 0\n"
                    "if __name__ == '__main__': raise SystemExit('not run')\n")
    with pytest.raises(SystemExit) as stopped:
        main(["lesson", "check", "1", str(file), "--seconds", "5"])
    out, err = capfd.readouterr()
    assert stopped.value.code == 1 and "hello" in err and "hello" not in out
    loop, crash, division, total = out.splitlines()
    assert loop == ("sigmoid_vjp: not right yet. sigmoid_vjp did not end within 5 seconds. Is there an endless loop? "
                    "(--seconds gives it more.)")
    assert crash == "neuron_gradients: not right yet. neuron_gradients ended the process that runs it (exit status 3)."
    assert division == "twice: not right yet. twice raised ZeroDivisionError in line 6: division by zero"
    assert total == "0 of 3 right"


def test_a_thread_of_the_answers_does_not_keep_the_check(tmp_path):
    file = tmp_path / "my_answer.py"
    file.write_text(model_answers(1).read_text(encoding="utf-8") + "\nimport threading, time\n"
                    "threading.Thread(target=time.sleep, args=(600,)).start()\n")
    assert [result.wrong for result in check(1, file, seconds=300)] == [None] * 3


@pytest.mark.parametrize(("text", "message"), [
    ("def sigmoid_vjp(g, y)\n", r"my_answer\.py cannot be run: SyntaxError in line 1: "),
    ("import tinygan\nx = missing_name\n", r"cannot be run: NameError in line 2: name 'missing_name' is not defined"),
    ("while True: pass\n", r"my_answer\.py itself did not end within 5 seconds, before any exercise was checked"),
    ("import os\nos._exit(4)\n", r"my_answer\.py ended the process that runs it \(exit status 4\)"),
])
def test_a_file_that_cannot_be_run(tmp_path, text, message):
    file = tmp_path / "my_answer.py"
    file.write_text(text)
    with pytest.raises(LessonError, match=message):
        check(1, file, seconds=5)


@pytest.mark.parametrize(("arguments", "message"), [
    (["check", "1", "missing.py"], "there is no file missing.py"),
    (["check", "1", "answers.ipynb"], r"answers.ipynb is a notebook: expected a Python file"),
    (["check", "10", __file__], r"there is no lesson 10: the lessons are 1 to 9 (tinygan lesson list)"),
    (["show", "12"], "there is no lesson 12"),
])
def test_what_cannot_be_checked_or_shown(arguments, message, capsys):
    assert main(["lesson", *arguments]) == 2
    assert message in capsys.readouterr().err


# The texts


def test_list_and_show(capsys):
    assert main(["lesson", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  ")[0] for line in lines] == [str(n) for n in range(1, 10)]
    assert lines[2] == "3  Algorithm 1 from scratch in 60 lines"
    assert main(["lesson", "show", "3"]) == 0
    out = capsys.readouterr().out
    assert str(ROOT / "docs/lessons/03_algorithm_1.py") in out and "`best_discriminator(p, q, n_real, n_fake)`" in out
    assert out.rstrip().endswith("tinygan lesson check 3 my_answer.py`.") and "# " not in out.replace("## Exercises", "")


@EVERY
def test_a_lesson_has_what_the_readme_promises(lesson):
    text = lesson.path.read_text(encoding="utf-8")
    assert text.startswith(f"# %% [markdown]\n# # Lesson {lesson.number}: ")
    minutes = int(re.search(r"About (\d+) minutes", text)[1])
    assert 15 <= minutes <= 30
    assert len(re.findall(r"^save\(", text, re.MULTILINE)) >= 2 and text.count("assert") >= 3
    told = re.sub(r"\s+", " ", lesson.exercises_text())
    assert all(f"`{exercise.call}`" in told for exercise in lesson.exercises())
    readme = (ROOT / "docs/lessons/README.md").read_text(encoding="utf-8")
    title = re.sub(r"\s+", " ", lesson.title)
    assert f"[{title}]({lesson.path.name}) | {minutes} |" in readme


@EVERY
def test_a_cell_of_text_is_comments_only(lesson):
    """As jupytext and editors read it: a line without # would be code."""
    for cell in re.split(r"^# %%", lesson.path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        if cell.startswith(" [markdown]"):
            assert all(re.match(r"#( |$)", line) for line in cell.rstrip("\n").splitlines()[1:]), cell


def test_algorithm_1_takes_at_most_60_lines():
    text = lesson(3).path.read_text(encoding="utf-8")
    code = text.partition("## Algorithm 1\n")[2].partition("# %%\n")[2].partition("# %% [markdown]")[0]
    assert "def train(" in code and 30 < len(code.strip().splitlines()) <= 60


def test_a_missing_script_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue, "PLACES", (tmp_path,))
    with pytest.raises(LessonError, match=r"lesson 1: its script 01_one_neuron\.py should be in .*: install"):
        _ = lesson(1).title


def test_an_installed_tinygan_has_the_lessons(tmp_path):
    pytest.importorskip("setuptools", minversion="77")  # (venv brings an older one on Python 3.11)
    build = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path), "--force"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    shown = subprocess.run([sys.executable, "-m", "tinygan.cli", "lesson", "show", "9"], cwd=tmp_path, env=environment, check=True,
                           capture_output=True, text=True).stdout
    assert str(tmp_path / "tinygan/teaching/lessons/texts/09_gradients_of_gradients.py") in shown and "`r1(D, real)`" in shown
    assert len(list((tmp_path / "tinygan/teaching/lessons/texts").glob("0*.py"))) == 9


def cut_off(figure):
    """Whether something dark touches the edge of a picture: a title that does not fit, say."""
    pixels = np.asarray(Image.open(figure).convert("L"))
    return any((edge < 128).any() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


@pytest.mark.lessons
@EVERY
def test_the_script_runs_and_draws(lesson, tmp_path):
    """Every claim of a lesson is an assertion in its script. A warning counts as a mistake."""
    done = subprocess.run([sys.executable, "-W", "error", str(lesson.path), str(tmp_path / "figures")], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    figures = list((tmp_path / "figures").glob(f"lesson-{lesson.number}-*.png"))
    assert len(figures) >= 2 and all(figure.stat().st_size > 5000 for figure in figures)
    assert not [figure.name for figure in figures if cut_off(figure)]
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_the_arrows_of_lesson_4_stand_out(monkeypatch, tmp_path):
    """Points, arrows and ground of its second figure differ in brightness: 3 to 1 from the ground everywhere, as the WCAG wants it for
    what must be seen, and from each other in colour."""
    from matplotlib.colors import to_rgba

    from tinygan.teaching import lessons

    figures = {}
    monkeypatch.setattr(lessons, "save", lambda made, name: figures.setdefault(name, made))
    exec(compile(lesson(4).path.read_text(encoding="utf-8"), "lesson_4", "exec"), {"__name__": "lesson_4"})
    axes, _ = figures["lesson-4-arrows"].axes
    ground, arrows = axes.collections

    def brightness(colour):
        """The relative luminance."""
        levels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgba(colour)[:3]]
        return sum(share * level for share, level in zip((0.2126, 0.7152, 0.0722), levels, strict=True))

    darkest = min(map(brightness, ground.get_facecolor()))
    shown = {"arrows": to_rgba(arrows.get_facecolor()[0]), **{line.get_label(): to_rgba(line.get_color()) for line in axes.lines}}
    assert len(set(shown.values())) == 3
    for name, colour in shown.items():
        assert (darkest + 0.05) / (brightness(colour) + 0.05) >= 3, name
