import tinygan as tg


def smoothed_loss(real_logits, fake_logits, target):
    return tg.mean(tg.softplus(real_logits) - target * real_logits) + tg.mean(tg.softplus(fake_logits))


def one_round(G, D, g_optimizer, d_optimizer, reals, d_noises, g_noise):
    for real, noise in zip(reals, d_noises, strict=True):
        with tg.no_grad():
            fake = G(noise)
        loss = tg.mean(tg.softplus(-D(real))) + tg.mean(tg.softplus(D(fake)))
        d_optimizer.step(tg.grad(loss, D.parameters()))
    loss = tg.mean(tg.softplus(-D(G(g_noise))))
    g_optimizer.step(tg.grad(loss, G.parameters()))


def best_discriminator(p, q, n_real, n_fake):
    return n_real * p / (n_real * p + n_fake * q)
