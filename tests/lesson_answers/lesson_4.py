import tinygan as tg


def generator_gradients(G, D, z):
    fake = G(z)
    loss = tg.mean(tg.softplus(-D(fake)))
    arrows, *gradients = tg.grad(loss, [fake, *G.parameters()])
    return arrows, gradients


def discriminator_gradients(G, D, real, z):
    with tg.no_grad():
        fake = G(z)
    loss = tg.mean(tg.softplus(-D(real))) + tg.mean(tg.softplus(D(fake)))
    return tg.grad(loss, D.parameters())


def both_players(G, D, real, z):
    loss = tg.mean(tg.softplus(-D(real))) + tg.mean(tg.softplus(D(G(z))))
    n = len(G.parameters())
    gradients = tg.grad(loss, [*G.parameters(), *D.parameters()])
    return [-g for g in gradients[:n]], gradients[n:]
