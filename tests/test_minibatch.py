"""Minibatch discrimination: the kernels against plain loops, gradients to second order, the layer against the paper's
formula and PyTorch, and how the game uses it."""
import numpy as np
import pytest
from helpers import LAYOUTS, agree, check, check_both_modes, share_all_tasks, use_compiled_kernels, values
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygan as tg
from tinygan import nn
from tinygan.backends import cpu
from tinygan.kernels import reference
from tinygan.random import Key

sizes = st.integers(1, 7)


def arrays(n, kernels, dimensions, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in
            ((n, kernels, dimensions), (n, kernels, dimensions), (n, kernels))]


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 40), sizes, st.sampled_from([np.float32, np.float64]),
       st.sampled_from(["NumPy", "compiled", "compiled, shared"]), st.integers(0, 99))
def test_the_kernels_compute_what_plain_loops_do(n, kernels, dimensions, dtype, path, seed):
    m, h, g = arrays(n, kernels, dimensions, dtype, seed)
    m[n // 2] = m[0]  # two that are alike: no difference has a sign
    with pytest.MonkeyPatch.context() as patch:
        use_compiled_kernels(patch, path != "NumPy")
        if path == "compiled, shared":
            share_all_tasks(patch)
        found = [cpu.minibatch_similarity(m), cpu.minibatch_similarity_grad(g, m), *cpu.minibatch_similarity_second(h, g, m)]
    expected = [reference.minibatch_similarity(m), reference.minibatch_similarity_grad(g, m),
                *reference.minibatch_similarity_second(h, g, m)]
    for got, want in zip(found, expected, strict=True):
        assert got.dtype == dtype and got.shape == want.shape
        scale = n * dimensions * max(np.abs(g).max() * np.abs(h).max(), 1)
        np.testing.assert_allclose(got, want, rtol=0, atol=64 * np.finfo(dtype).eps * scale)


def test_far_apart_is_not_near_and_nan_stays_nan():
    m = np.zeros((40, 16, 8), np.float32)
    m[0] = 1e30
    m[1, 3, 2] = np.nan
    near = cpu.minibatch_similarity(m)
    assert near[0, 0] < 1e-30 and np.isnan(near[1, 3]) and np.isnan(near[5, 3])
    np.testing.assert_allclose(near[2, 4], 38, rtol=1e-6)


@pytest.mark.parametrize("kernels, dimensions", [(1, 1), (2, 3)])
@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_to_second_order(kernels, dimensions, compiled, monkeypatch):
    use_compiled_kernels(monkeypatch, compiled)
    m, *_ = arrays(4, kernels, dimensions)
    check(tg.minibatch_similarity, m)


def test_the_third_order_is_that_of_the_definition():
    m, h, g = arrays(4, 2, 3)

    def by_pairs(m):
        near = tg.exp(-tg.sum(tg.abs(tg.expand_dims(m, 1) - m), -1))
        return tg.sum(near * (1 - np.eye(4))[..., None], 1)

    def third(fn):
        x = tg.Tensor(m, requires_grad=True)
        first = tg.grad(fn(x), x, tg.Tensor(g), create_graph=True)
        second = tg.grad(first, x, tg.Tensor(h), create_graph=True)
        return np.asarray(tg.grad(second, x, tg.Tensor(np.cos(h))))

    np.testing.assert_allclose(third(tg.minibatch_similarity), third(by_pairs), rtol=1e-10, atol=1e-12)


@pytest.mark.oracle
def test_the_layer_is_the_papers_formula_in_pytorch():
    torch = pytest.importorskip("torch")
    layer = nn.MinibatchDiscrimination(6, kernels=4, dimensions=3).initialize(Key(0)).astype(np.float64)
    features = np.random.default_rng(0).standard_normal((5, 6))
    x = tg.Tensor(features, requires_grad=True)
    y = layer(x)
    f = torch.tensor(features, requires_grad=True)
    T = torch.tensor(layer.weight.numpy().reshape(4, 3, 6).transpose(2, 0, 1), requires_grad=True)  # (A, B, C)
    M = torch.einsum("na,abc->nbc", f, T)
    c = torch.exp(-(M[:, None] - M[None]).abs().sum(-1))  # c_b(x_i, x_j)
    o = torch.stack([sum(c[i, j] for j in range(5) if j != i) for i in range(5)])
    expected = torch.cat([f, o], 1)
    np.testing.assert_allclose(np.asarray(y), expected.detach().numpy(), rtol=1e-12)
    weights = np.cos(np.arange(y.size)).reshape(y.shape)
    gx, gw = tg.grad(y, [x, layer.weight], tg.Tensor(weights))
    ef, eT = torch.autograd.grad(expected, [f, T], torch.tensor(weights))
    np.testing.assert_allclose(np.asarray(gx), ef.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(np.asarray(gw).reshape(4, 3, 6), eT.numpy().transpose(1, 2, 0), rtol=1e-10, atol=1e-12)


def test_the_layer_describes_itself_and_refuses_nonsense():
    layer = nn.MinibatchDiscrimination(256, kernels=50, dimensions=5)
    assert layer.describe() == "256 -> 306, 5 dimensions"
    assert layer(np.zeros((3, 256), np.float32)).shape == (3, 306)
    with pytest.raises(ValueError, match="kernels and dimensions should be at least 1, got 0 and 5"):
        nn.MinibatchDiscrimination(256, kernels=0)
    with pytest.raises(ValueError, match=r"minibatch_similarity: expected three axes.* got \(3, 256\)"):
        tg.minibatch_similarity(np.zeros((3, 256), np.float32))


def test_real_and_generated_images_do_not_meet():
    """A discriminator with this layer sees the two batches apart: what it says of real images does not depend on the others."""
    generator = nn.Sequential(nn.Dense(3, 4), nn.Tanh())
    discriminator = nn.Sequential(nn.Dense(4, 6), nn.LeakyReLU(0.2), nn.MinibatchDiscrimination(6, 4, 3), nn.Dense(10, 1))
    gan = tg.gans.VanillaGAN(generator, discriminator, 3, key=Key(0))
    real = Key(1).uniform((5, 4), -1.0, 1.0)
    _, _, one, _ = gan.d_gradients(real, Key(2).normal((5, 3)))
    _, _, other, _ = gan.d_gradients(real, Key(3).normal((7, 3)))
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    np.testing.assert_array_equal(np.asarray(one), np.asarray(discriminator(real)))


def test_it_sees_a_collapse():
    """Images that are all alike are nearer to each other than those that differ."""
    layer = nn.MinibatchDiscrimination(8, kernels=6, dimensions=5).initialize(Key(0))
    x = Key(1).normal((16, 8))
    alike, differing = (np.asarray(layer(batch))[:, 8:] for batch in (np.repeat(x[:1], 16, 0), x))
    np.testing.assert_allclose(alike, 15, rtol=1e-6)
    assert differing.max() < 15


def test_the_average_is_the_sum_over_the_others_divided_by_how_many_they_are():
    layer = nn.MinibatchDiscrimination(8, kernels=6, dimensions=5).initialize(Key(0))
    mean = nn.MinibatchDiscrimination(8, kernels=6, dimensions=5, average=True).load_state_dict(layer.state_dict())
    x = Key(1).normal((16, 8))
    for many in (16, 2):
        np.testing.assert_allclose(mean(x[:many]).array[:, 8:], layer(x[:many]).array[:, 8:] / (many - 1), rtol=1e-6)
    assert np.array_equal(mean(x[:1]).array[:, 8:], np.zeros((1, 6)))


# The minibatch standard deviation


def in_groups(x, size):
    """By the definition: in group i % (N / size) the standard deviations over examples, averaged."""
    groups = len(x) // size
    one = np.array([np.sqrt(x[i::groups].var(0) + 1e-8).mean() for i in range(groups)])
    channel = np.tile(one, size).reshape(-1, *[1] * (x.ndim - 1))
    return np.concatenate([x, np.broadcast_to(channel, (len(x), 1, *x.shape[2:]))], 1)


@pytest.mark.parametrize("shape, size", [((4, 3, 2, 2), None), ((4, 3, 2, 2), 2), ((6, 5), 3), ((3, 2, 2), 8), ((1, 3), None), ((4, 2), 1)], ids=str)
def test_minibatch_std_by_the_definition(device, shape, size):
    x = values(0, shape)
    expected = in_groups(x, min(size or len(x), len(x)))
    check_both_modes(lambda x: tg.minibatch_std(x, size), expected, x, device=device, rtol=1e-10)
    np.testing.assert_array_equal(nn.MinibatchStd(size)(x), tg.minibatch_std(x, size))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_gradients_of_minibatch_std(layout):
    check(lambda x: tg.minibatch_std(x, 2), values(0, (4, 2, 1, 2)), layout=layout)
    check(tg.minibatch_std, values(1, (3, 2)), layout=layout)


@pytest.mark.oracle
def test_minibatch_std_against_the_papers_code_in_pytorch(device):
    torch = pytest.importorskip("torch")

    def theirs(x, group=2):
        _, c, h, w = x.shape
        y = x.reshape(group, -1, c, h, w)
        y = torch.sqrt(((y - y.mean(0)) ** 2).mean(0) + 1e-8).mean((1, 2, 3), keepdim=True)
        return torch.cat([x, y.repeat(group, 1, h, w)], 1)

    agree(lambda x: tg.minibatch_std(x, 2), theirs, values(0, (6, 3, 2, 2)), device=device)


def test_equal_examples_have_a_gradient():
    x = tg.Tensor(np.ones((4, 2), np.float32), requires_grad=True)
    y = tg.minibatch_std(x)
    np.testing.assert_allclose(y.numpy()[:, 2], 1e-4, rtol=1e-5)
    g = tg.grad(y.sum(), x, create_graph=True)
    np.testing.assert_array_equal(g.numpy(), 1)
    assert np.isfinite(tg.grad(g.sum(), x).numpy()).all()


def test_minibatch_std_of_large_numbers():
    x = np.array([[1e25, 0], [-1e25, 0]], np.float32)
    np.testing.assert_allclose(tg.minibatch_std(x)[:, 2], 0.5e25, rtol=1e-6)


@pytest.mark.parametrize("call, message", [
    (lambda: tg.minibatch_std(np.ones((6, 3)), 4), r"minibatch_std: group_size should divide the batch, got 4 \(input \(6, 3\)\)"),
    (lambda: tg.minibatch_std(np.ones((0, 3))), r"minibatch_std: expected input \(N, C, ...\) that is not empty, got \(0, 3\)"),
    (lambda: tg.minibatch_std(np.ones(3)), r"minibatch_std: expected input \(N, C, ...\)"),
    (lambda: nn.MinibatchStd(0), "minibatch_std: group_size should be a whole number, 1 or more, or None, got 0"),
])
def test_minibatch_std_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_minibatch_std_couples_examples():
    assert nn.MinibatchStd().couples_examples and nn.MinibatchStd(4).describe() == "groups of 4"
