"""Produce REAL MindSpore strategy files by compiling a tiny llama-shaped net with the peer's own
semi_auto_parallel frontend, without any device.  (needs shim.so, built from shim.cc by make_strategies.sh)
usage: semi_llama.py OUT dp mp pp stage opt(0/1) train(0/1) [layers]"""
import sys, os, ctypes, numpy as np
import mindspore as ms
from mindspore import context, nn, ops, Parameter, Tensor
from mindspore.common.initializer import initializer
from mindspore._c_expression import ms_ctx_param
from mindspore.parallel._auto_parallel_context import auto_parallel_context
OUT,dp,mp,pp,stage,opt,train=sys.argv[1],*map(int,sys.argv[2:8]); NL=int(sys.argv[8]) if len(sys.argv)>8 else 2
H,F,V,S,B=64,160,96,8,16
shim=os.environ["MS_SHIM"]
ctypes.CDLL(os.path.join(os.path.dirname(ms.__file__),"lib/libmindspore_core.so"),mode=ctypes.RTLD_GLOBAL)
ctypes.CDLL(shim).reg_target(b"Ascend")
context._context()._context_handle.set_param(ms_ctx_param.device_target,"Ascend")
ms.set_context(mode=ms.GRAPH_MODE)
n=dp*mp*pp
ms.set_auto_parallel_context(parallel_mode="semi_auto_parallel",device_num=n,global_rank=stage*dp*mp,full_batch=True,pipeline_stages=pp,
    enable_parallel_optimizer=bool(opt), parallel_optimizer_config=({"parallel_optimizer_threshold":0} if opt<2 else {"parallel_optimizer_threshold":0,"optimizer_weight_shard_size":opt}) if opt else {},
    strategy_ckpt_config={"save_file":OUT,"only_trainable_params":False})
auto_parallel_context()._context_handle.set_hccl_test_avaible(True)
def P_(shape): return Parameter(initializer('normal',shape,ms.float32))
class Linear(nn.Cell):
    def __init__(self,i,o,col):
        super().__init__(); self.weight=P_((o,i)); self.mm=ops.MatMul(transpose_b=True)
        self.mm.shard(((dp,1),(mp,1)) if col else ((dp,mp),(1,mp)))
    def construct(self,x): return self.mm(x,self.weight)
class Norm(nn.Cell):
    def __init__(self,d):
        super().__init__(); self.weight=P_((d,)); self.mul=ops.Mul().shard(((dp,1),(1,)))
    def construct(self,x): return self.mul(x,self.weight)
class Attn(nn.Cell):
    def __init__(self):
        super().__init__(); self.wq=Linear(H,H,True); self.wk=Linear(H,H,True); self.wv=Linear(H,H,True); self.wo=Linear(H,H,False)
        self.m1=ops.Mul().shard(((dp,mp),(dp,mp))); self.a1=ops.Add().shard(((dp,mp),(dp,mp)))
    def construct(self,x): return self.wo(self.a1(self.m1(self.wq(x),self.wk(x)),self.wv(x)))
class FFN(nn.Cell):
    def __init__(self):
        super().__init__(); self.w1=Linear(H,F,True); self.w2=Linear(F,H,False); self.w3=Linear(H,F,True); self.m=ops.Mul().shard(((dp,mp),(dp,mp)))
    def construct(self,x): return self.w2(self.m(self.w1(x),self.w3(x)))
class Layer(nn.Cell):
    def __init__(self):
        super().__init__(); self.attention=Attn(); self.feed_forward=FFN(); self.attention_norm=Norm(H); self.ffn_norm=Norm(H)
        self.add=ops.Add().shard(((dp,1),(dp,1)))
    def construct(self,x):
        x=self.add(x,self.attention(self.attention_norm(x))); return self.add(x,self.feed_forward(self.ffn_norm(x)))
class Emb(nn.Cell):
    def __init__(self):
        super().__init__(); self.embedding_weight=P_((V,H)); self.g=ops.Gather().shard(((mp,1),(dp,)))
    def construct(self,ids): return self.g(self.embedding_weight,ids,0)
class Model(nn.Cell):
    def __init__(self):
        super().__init__(); self.tok_embeddings=Emb(); self.layers=nn.CellList([Layer() for _ in range(NL)]); self.norm_out=Norm(H)
    def construct(self,ids):
        x=self.tok_embeddings(ids)
        for l in self.layers: x=l(x)
        return self.norm_out(x)
class LLM(nn.Cell):
    def __init__(self):
        super().__init__(); self.model=Model(); self.lm_head=Linear(H,V,True)
        self.sum=ops.ReduceSum().shard(((dp,mp),))
    def construct(self,ids):
        y=self.lm_head(self.model(ids))
        return self.sum(y,()) if train else y
net=LLM()
if pp>1:
    per=NL//pp
    net.model.tok_embeddings.pipeline_stage=0
    for i,l in enumerate(net.model.layers): l.pipeline_stage=min(i//per,pp-1)
    net.model.norm_out.pipeline_stage=pp-1; net.lm_head.pipeline_stage=pp-1
ids=Tensor(np.zeros((B,),np.int32))
if train:
    core=nn.PipelineCell(net,pp) if pp>1 else net
    from mindspore.nn.wrap.cell_wrapper import _VirtualDatasetCell
    core=_VirtualDatasetCell(core)
    params=[p for p in net.trainable_params()]
    if pp>1: params=core.infer_param_pipeline_stage() if hasattr(core,'infer_param_pipeline_stage') else params
    optm=nn.AdamWeightDecay(params,learning_rate=1e-3)
    from mindspore.nn.wrap.cell_wrapper import _TrainGradAccuStepCell
    tr=(_TrainGradAccuStepCell if pp>1 else nn.TrainOneStepCell)(core,optm); tr.set_train(True)
else:
    tr=net; tr.set_train(False)
from mindspore.graph.api import _cell_graph_executor
try:
    _cell_graph_executor.compile(tr,ids,phase="train" if train else "predict"); print("compiled")
except BaseException as e:
    print("compile stopped:",type(e).__name__,str(e)[:300 if os.path.exists(OUT) else 2000])
print("EXISTS",OUT,os.path.exists(OUT) and os.path.getsize(OUT))
