import numpy as np
import numpy as xp
name="cpu"
to_numpy=np.asarray
empty=np.empty
def matmul(a,b): return np.matmul(a,b)
def activation(x,n,s,out=None):
    if n=="tanh": return np.tanh(x)
    if n=="sigmoid": return (0.5*(1+np.tanh(0.5*x))).astype(x.dtype)
    if n=="softplus": return np.logaddexp(0,x).astype(x.dtype)
    if n=="relu": return np.maximum(x,0)
    if n=="leaky_relu": return np.where(x>0,x,x*s)
    if n=="elu": return np.where(x>0,x,s*np.expm1(np.minimum(x,0)))
    return x
def activation_grad(g,y,n,s,out=None):
    if n=="tanh": return g*(1-y*y)
    if n=="sigmoid": return g*y*(1-y)
    if n=="softplus": return g*-np.expm1(-y)
    if n=="relu": return g*(y>0)
    if n=="leaky_relu": return np.where(y>0,g,g*s)
    if n=="elu": return np.where(y>0,g,g*(y+s))
    return g
def dense(x,w,b,a,s): return activation(x@w.T+b,a,s)
def bce_with_logits(x,t): return np.mean(np.maximum(x,0)+np.log1p(np.exp(-abs(x)))-x*t)
def bce_with_logits_grad(g,x,t): return g*(activation(x,"sigmoid",0)-t)/x.dtype.type(x.size)
def _ax(x): return (0,*range(2,x.ndim))
def _pc(v,x): return v.reshape((1,-1)+(1,)*(x.ndim-2))
def batch_norm(x,w,b,eps,mean,var):
    mean[:]=x.mean(_ax(x)); var[:]=x.var(_ax(x))
    return (x-_pc(mean,x))/np.sqrt(_pc(var,x)+x.dtype.type(eps))*_pc(w,x)+_pc(b,x)
def batch_norm_sums(g,x,eps,mean,var):
    xh=(x-_pc(mean,x))/np.sqrt(_pc(var,x)+x.dtype.type(eps))
    return np.stack([g.sum(_ax(x)),(g*xh).sum(_ax(x))])
def batch_norm_input_grad(g,x,w,sums,eps,mean,var):
    n=x.size//x.shape[1]
    sd=np.sqrt(_pc(var,x)+x.dtype.type(eps)); xh=(x-_pc(mean,x))/sd
    return _pc(w,x)/sd*(g-(_pc(sums[0],x)+xh*_pc(sums[1],x))/n)
def random_bits(k,out): 
    r=np.random.Generator(np.random.Philox(key=int(k[0])|int(k[1])<<32)); out[...]=r.integers(0,2**32,out.shape,dtype=np.uint32); return out
def random_uniform(k,out,l,h):
    r=np.random.Generator(np.random.Philox(key=int(k[0])|int(k[1])<<32)); out[...]=l+(h-l)*r.random(out.shape); return out
def random_normal(k,out):
    r=np.random.Generator(np.random.Philox(key=int(k[0])|int(k[1])<<32)); out[...]=r.standard_normal(out.shape); return out
def adam(P,G,M,V,h):
    lr,b1,b2,eps,wd,dec,c1,c2=h
    for p,g,m,v in zip(P,G,M,V):
        m*=b1; m+=(1-b1)*g; v*=b2; v+=(1-b2)*g*g
        p-=((lr/c1)*m/(np.sqrt(v)/np.sqrt(c2)+eps)).astype(p.dtype)
