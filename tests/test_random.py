"""Keys: the same numbers everywhere, independent of each other and of everything global, with the right distributions."""
import copy
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import tinygan as tg
from tinygan.devices import device
from tinygan.random import Key, KeyStream, next_key, stream, use_key

N = 100_000
P = 1e-4  # the seeds are fixed: a test passes always or never


def philox(counter, key):
    """Philox4x32-10 as its authors define it (Salmon et al. 2011, section 3.3), on four words and two."""
    x, k = [int(c) for c in counter], [int(w) for w in key]
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(b >> 32) ^ x[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ x[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return x


def test_the_oracle_is_philox():
    # The known answers that the authors publish with their library (Random123, kat_vectors).
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]
    assert philox(*pi) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 1000, 40_000])
def test_bits_are_those_of_philox(size):
    key = Key(0x0123456789ABCDEF)
    bits = key.bits(size)
    assert bits.dtype == np.uint32 and bits.shape == (size,)
    for block in {0, 1, size // 8, max((size - 1) // 4, 0)}:
        words = philox([block, 0, 0, 0], [0x89ABCDEF, 0x01234567])
        np.testing.assert_array_equal(bits[4 * block:4 * block + 4], words[:max(min(4, size - 4 * block), 0)])


def test_the_first_numbers_of_a_draw_do_not_depend_on_its_size():
    key = Key(3)
    for draw in (key.bits, key.uniform, key.normal):
        many = draw(70_001)
        np.testing.assert_array_equal(draw(10), many[:10])
        np.testing.assert_array_equal(draw((7, 3, 5)).ravel(), many[:105])


def test_another_process_draws_the_same_numbers():
    code = """
import os, sys
os.environ["NUMBA_NUM_THREADS"] = sys.argv[1]
from tinygan.random import Key
k = Key(2**63 + 5).fold("name").fold(7)
print(k.data.tolist(), k.permutation(10).tolist(), k.normal(40_000).sum(dtype="f8"), k.integers(4, -5, 5).tolist())
"""
    outputs = set()
    for threads in ("1", "3"):
        command = [sys.executable, "-c", code, threads]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        outputs.add(result.stdout)
    k = Key(2**63 + 5).fold("name").fold(7)
    here = [k.data.tolist(), k.permutation(10).tolist(), k.normal(40_000).sum(dtype="f8"), k.integers(4, -5, 5).tolist()]
    assert outputs == {" ".join(map(str, here)) + "\n"}


def test_a_key_gives_the_same_numbers_again_and_another_key_others():
    for draw in ("bits", "uniform", "normal"):
        a, b, c = (getattr(key, draw)(100) for key in (Key(1), Key(1), Key(2)))
        np.testing.assert_array_equal(a, b)
        assert (a != c).mean() > 0.9


def test_folds_and_splits_differ_from_each_other_and_their_parent():
    key = Key(0)
    keys = [key, *(key.fold(i) for i in range(300)), *(key.fold(str(i)) for i in range(300)), key.fold("weight"),
            key.fold(-1), key.fold("a").fold("b"), key.fold("b").fold("a"), key.fold("ab"), Key(1).fold(0)]
    assert len(set(keys)) == len(keys)
    assert key.fold("x") == Key(0).fold("x") and key.fold(np.int64(3)) == key.fold(3)
    assert len({*key.split(50), key}) == 51 and key.split(3) == key.split(5)[:3]


def test_neighbouring_keys_are_uncorrelated():
    draws = np.array([key.normal(5000) for key in [Key(0), Key(1), Key(2), *Key(0).split(5)]])
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 5 / np.sqrt(5000)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_and_normal_have_their_distributions(dtype):
    u = Key(1).uniform((N // 10, 10), -2.0, 3.0, dtype)
    assert u.dtype == dtype and u.shape == (N // 10, 10) and u.min() >= -2 and u.max() < 3
    assert stats.kstest(u.ravel(), stats.uniform(-2, 5).cdf).pvalue > P
    z = Key(2).normal((N // 10, 10), dtype)
    assert z.dtype == dtype and z.shape == (N // 10, 10) and np.isfinite(z).all()
    assert stats.kstest(z.ravel(), stats.norm.cdf).pvalue > P
    assert np.abs(z).max() > 3.9
    # Box and Muller make pairs: neighbours must be independent, and their squares too.
    for a in (z.ravel(), z.ravel() ** 2):
        for lag in (1, 2, 3):
            assert abs(np.corrcoef(a[:-lag], a[lag:])[0, 1]) < 5 / np.sqrt(N)


@pytest.mark.parametrize("n", [1, 2, 1023, 1024, 1025, 50_000])
def test_normal_is_box_and_mullers_formula_of_the_words(n):
    words = (Key(7).bits(n + n % 2) >> 8).astype(np.float64).reshape(-1, 2) * 2.0**-24
    radius, angle = np.sqrt(-2 * np.log1p(-words[:, 0])), 2 * np.pi * words[:, 1]
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel()[:n]
    np.testing.assert_allclose(Key(7).normal(n), expected, rtol=0, atol=2e-6)


def test_uniform_never_reaches_its_upper_end():
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (1e6, 1e6 + 0.25), (-3e-3, 1e-3)):
        u = Key(5).uniform(N, low, high)
        assert u.min() >= np.float32(low) and u.max() < np.float32(high)


def test_integers():
    values = Key(3).integers((N, 1), -3, 4)
    assert values.dtype == np.int64 and values.shape == (N, 1)
    counts = np.unique(values, return_counts=True)
    assert counts[0].tolist() == list(range(-3, 4))
    assert stats.chisquare(counts[1]).pvalue > P
    assert set(Key(0).integers(50, 8, 9)) == {8}
    wide = Key(0).integers(1000, -2**62, 2**62)
    assert wide.min() < -2**61 and wide.max() > 2**61
    with pytest.raises(ValueError, match=r"Key.integers: low 3 should be below high 3"):
        Key(0).integers(1, 3, 3)


def test_permutation():
    p = Key(4).permutation(1000)
    assert p.dtype == np.int64
    np.testing.assert_array_equal(np.sort(p), np.arange(1000))
    orders = [tuple(key.permutation(3)) for key in Key(9).split(6000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > P
    assert Key(0).permutation(0).shape == (0,)


def test_nothing_global_is_read_or_changed():
    np.random.seed(0)
    random.seed(0)
    before = str(np.random.get_state()), random.getstate()
    first = Key(1).normal(10), tg.dropout(tg.Tensor(np.ones(100)), 0.5, key=Key(2)).numpy()
    assert (str(np.random.get_state()), random.getstate()) == before
    np.random.seed(1)
    np.testing.assert_array_equal(Key(1).normal(10), first[0])
    np.testing.assert_array_equal(tg.dropout(tg.Tensor(np.ones(100)), 0.5, key=Key(2)).numpy(), first[1])


def test_a_key_is_a_value():
    key = Key(2**64 - 1)
    with pytest.raises(AttributeError, match="cannot be changed"):
        key._word = 3
    for copied in (pickle.loads(pickle.dumps(key)), copy.copy(key), copy.deepcopy(key), Key.from_data(key.data)):
        assert copied == key and hash(copied) == hash(key)
        np.testing.assert_array_equal(copied.bits(5), key.bits(5))
    assert key.data.dtype == np.uint32 and key.data.tolist() == [2**32 - 1] * 2
    assert Key.from_data(Key(5).fold("x").data) == Key(5).fold("x")
    key.data[0] = 0  # a copy
    assert key == Key(2**64 - 1) and key != Key(0) and key != 2**64 - 1
    assert repr(Key(255)) == "Key(0xff)"


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", None, True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match=r"Key: seed should be an integer from 0 to 2\*\*64 - 1"):
        Key(seed)


def test_streams_resume_where_they_were():
    keys = KeyStream(Key(7))
    first = [keys.next_key() for _ in range(3)]
    assert len(set(first)) == 3
    again = KeyStream(keys.key, keys.count)
    copies = [again, copy.deepcopy(keys), pickle.loads(pickle.dumps(keys))]
    following = keys.next_key()
    assert [c.next_key() for c in copies] == [following] * 3
    assert following not in first


def test_use_key_decides_what_dropout_draws():
    x = tg.Tensor(np.ones(200))
    with use_key(Key(1)) as keys:
        a, b = tg.dropout(x).numpy(), tg.dropout(x).numpy()
        assert stream() is keys and keys.count == 2
        with use_key(Key(2)):
            next_key()
        assert keys.count == 2
    assert (a != b).any()
    with use_key(Key(1)):
        np.testing.assert_array_equal(tg.dropout(x).numpy(), a)
    assert set(a) == {0.0, 2.0}
    assert stats.binomtest(int((tg.dropout(tg.Tensor(np.ones(N)), 0.3, key=Key(3)).numpy() == 0).sum()), N, 0.3).pvalue > P


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 7, 1023, 1024, 1025])
def test_a_part_of_a_draw_is_that_part(start, dtype):
    key = Key(3)
    whole = {"bits": key.bits(2000), "uniform": key.uniform(2000, -2.0, 5.0, dtype), "normal": key.normal(2000, dtype)}
    parts = {"bits": key.bits((3, 5), start=start), "uniform": key.uniform((3, 5), -2.0, 5.0, dtype, start=start),
             "normal": key.normal((3, 5), dtype, start=start)}
    for name, part in parts.items():
        assert part.shape == (3, 5) and np.array_equal(part.ravel(), whole[name][start:start + 15]), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_part_of_a_draw_on_the_emulated_gpu(dtype):
    backend = device("emulated")
    for start in (1, 4, 6):
        for draw in (Key(3).uniform, Key(3).normal):
            found = backend.to_numpy(draw((2, 5), dtype=dtype, start=start, backend=backend))
            np.testing.assert_allclose(found, draw((2, 5), dtype=dtype, start=start), rtol=1e-5, atol=1e-6)
        assert np.array_equal(backend.to_numpy(Key(3).bits(9, start=start, backend=backend)), Key(3).bits(9, start=start))
