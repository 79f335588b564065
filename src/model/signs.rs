//! By what a checkpoint is known that another tool quantised, and how its weights become floating-point numbers again.
//!
//! Sources: the state dictionaries of bitsandbytes (`Linear8bitLt`, `Params4bit`), `GPTQModel`, `AutoAWQ`, compressed-tensors,
//! torchao, MLX and msmodelslim, the fp8 checkpoints of `DeepSeek` and Qwen, and the `quant_method` that transformers knows.

use std::collections::BTreeMap;
use std::fmt;

/// A tool that quantises checkpoints into names that no family of this program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuantTool {
    /// bitsandbytes, 8 or 4 bits.
    BitsAndBytes,
    /// GPTQ and AWQ, whose names are the same.
    Gptq,
    /// 8-bit floating-point numbers, with a scale for each block.
    Fp8,
    /// msmodelslim, for Ascend.
    MsModelSlim,
    /// compressed-tensors (llm-compressor).
    CompressedTensors,
    /// torchao.
    TorchAo,
    /// MLX.
    Mlx,
}

/// Where a sign is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The last part of a tensor's name.
    Tail,
    /// How the last part of a tensor's name begins.
    TailStart,
    /// The name of a file beside the tensors, which ends in `.json`.
    FileStart,
    /// `quant_method` of a `config.json`.
    Method,
    /// How a dtype's name begins, in any case.
    Dtype,
}

/// Every sign that is known. Where several tools have one, the first counts unless another sign names another.
const SIGNS: &[(Place, &str, QuantTool)] = &[
    (Place::Tail, "SCB", QuantTool::BitsAndBytes),
    (Place::Tail, "weight_format", QuantTool::BitsAndBytes),
    (Place::Tail, "absmax", QuantTool::BitsAndBytes),
    (Place::Tail, "nested_absmax", QuantTool::BitsAndBytes),
    (Place::Tail, "quant_map", QuantTool::BitsAndBytes),
    (Place::Tail, "nested_quant_map", QuantTool::BitsAndBytes),
    (Place::TailStart, "bitsandbytes__", QuantTool::BitsAndBytes),
    (Place::Method, "bitsandbytes", QuantTool::BitsAndBytes),
    (Place::Tail, "qweight", QuantTool::Gptq),
    (Place::Tail, "qzeros", QuantTool::Gptq),
    (Place::Tail, "g_idx", QuantTool::Gptq),
    (Place::FileStart, "quantize_config", QuantTool::Gptq),
    (Place::FileStart, "quant_config", QuantTool::Gptq),
    (Place::Method, "gptq", QuantTool::Gptq),
    (Place::Method, "awq", QuantTool::Gptq),
    (Place::Tail, "weight_scale_inv", QuantTool::Fp8),
    (Place::Method, "fp8", QuantTool::Fp8),
    (Place::Method, "fbgemm_fp8", QuantTool::Fp8),
    (Place::Dtype, "f8_", QuantTool::Fp8),
    (Place::Dtype, "float8", QuantTool::Fp8),
    (Place::Dtype, "torch.float8", QuantTool::Fp8),
    (Place::Dtype, "hifloat8", QuantTool::Fp8),
    (Place::FileStart, "quant_model_description", QuantTool::MsModelSlim),
    (Place::Tail, "deq_scale", QuantTool::MsModelSlim),
    (Place::Tail, "quant_bias", QuantTool::MsModelSlim),
    (Place::Tail, "weight_offset", QuantTool::MsModelSlim),
    (Place::Tail, "input_offset", QuantTool::MsModelSlim),
    (Place::Method, "ascend", QuantTool::MsModelSlim),
    (Place::Tail, "weight_packed", QuantTool::CompressedTensors),
    (Place::Tail, "weight_shape", QuantTool::CompressedTensors),
    (Place::Tail, "weight_zero_point", QuantTool::CompressedTensors),
    (Place::Tail, "weight_scale", QuantTool::CompressedTensors),
    (Place::Method, "compressed-tensors", QuantTool::CompressedTensors),
    (Place::TailStart, "_weight_qdata", QuantTool::TorchAo),
    (Place::TailStart, "_weight_scale", QuantTool::TorchAo),
    (Place::Method, "torchao", QuantTool::TorchAo),
    // AWQ and GPTQ have scales too, but qweight with them.
    (Place::Tail, "scales", QuantTool::Mlx),
    (Place::Tail, "biases", QuantTool::Mlx),
];

impl QuantTool {
    /// The tool that stores tensors of this dtype, as a file spells it.
    pub fn of_dtype(dtype: &str) -> Option<Self> {
        of_dtype(dtype).map(|at| SIGNS[at].2)
    }

    /// How its weights are made floating-point numbers again.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::BitsAndBytes => {
                "with transformers and bitsandbytes: AutoModelForCausalLM.from_pretrained(DIR).dequantize().save_pretrained(OUT), \
                 where DIR/config.json has the quantization_config that it was quantised with"
            }
            Self::Gptq => "with the tool that made it (GPTQModel, AutoAWQ)",
            Self::Fp8 => {
                "with transformers 5: AutoModelForCausalLM.from_pretrained(DIR, \
                 quantization_config=FineGrainedFP8Config(dequantize=True)).save_pretrained(OUT), or DeepSeek's fp8_cast_bf16.py"
            }
            Self::MsModelSlim => {
                "with msmodelslim's own tools; its int8 is not golden-stick's, which -f quant_weight makes of a 16-bit model"
            }
            Self::CompressedTensors => {
                "with transformers: AutoModelForCausalLM.from_pretrained(DIR, \
                 quantization_config=CompressedTensorsConfig(run_compressed=False)).save_pretrained(OUT)"
            }
            Self::TorchAo => "with torchao: each weight's dequantize()",
            Self::Mlx => "with mlx_lm.convert --dequantize",
        }
    }
}

/// The signs that were found of a quantised model, each with how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuantSigns {
    tails: BTreeMap<String, usize>,
    files: Vec<String>,
    config: Option<String>,
    dtype: Option<String>,
    /// An index among [`SIGNS`].
    tool: Option<usize>,
}

impl QuantSigns {
    /// Whether a tensor's name is a sign: a part of a quantised weight, but not the weight.
    pub fn is_one(name: &str) -> bool {
        of_name(name).is_some()
    }

    /// Looks at a tensor's name.
    pub fn name(&mut self, name: &str) {
        if let Some(at) = of_name(name) {
            let tail = name.rsplit('.').next().unwrap_or(name);
            *self.tails.entry(format!(".{tail}")).or_default() += 1;
            self.found(at);
        }
    }

    /// Looks at the name of a file beside the tensors.
    pub fn file(&mut self, name: &str) {
        let json = name.strip_suffix(".json");
        let of = |(place, start, _): &(Place, &str, QuantTool)| {
            *place == Place::FileStart && json.is_some_and(|stem| stem.starts_with(start))
        };
        if let Some(at) = SIGNS.iter().position(of) {
            self.files.push(name.to_owned());
            self.found(at);
        }
    }

    /// Takes note of a field of the configuration, and of the `quant_method` in it.
    pub fn config(&mut self, field: &str, method: Option<&str>) {
        let with = method.map_or_else(String::new, |method| format!(" ({method})"));
        self.config = Some(format!("`{field}` of config.json{with}"));
        let of = |(place, known, _): &(Place, &str, QuantTool)| *place == Place::Method && Some(*known) == method;
        if let Some(at) = SIGNS.iter().position(of) {
            self.found(at);
        }
    }

    /// Takes note of a tensor's dtype, as a file spells it, where it is one of quantised models only.
    pub fn dtype(&mut self, tensor: &str, dtype: &str) {
        if let Some(at) = of_dtype(dtype) {
            self.dtype = Some(format!("`{tensor}` of dtype {dtype}"));
            self.found(at);
        }
    }

    /// The tool that they are of.
    pub fn tool(&self) -> Option<QuantTool> {
        self.tool.map(|at| SIGNS[at].2)
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn found(&mut self, at: usize) {
        self.tool = Some(self.tool.map_or(at, |first| first.min(at)));
    }
}

impl fmt::Display for QuantSigns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tails = self.tails.iter().map(|(tail, count)| match count {
            1 => format!("a tensor `…{tail}`"),
            count => format!("{count} tensors `…{tail}`"),
        });
        let files = self.files.iter().map(|name| format!("the file `{name}`"));
        let all: Vec<String> =
            self.dtype.clone().into_iter().chain(tails).chain(files).chain(self.config.clone()).collect();
        f.write_str(&all.join(", "))
    }
}

fn of_dtype(dtype: &str) -> Option<usize> {
    let lower = dtype.to_ascii_lowercase();
    SIGNS.iter().position(|(place, start, _)| *place == Place::Dtype && lower.starts_with(start))
}

/// Which sign a tensor's name is. The names that golden-stick and this program give are none.
fn of_name(name: &str) -> Option<usize> {
    if super::naming::has_known_tail(name) {
        return None;
    }
    let (_, tail) = name.rsplit_once('.')?;
    SIGNS.iter().position(|(place, known, _)| match place {
        Place::Tail => *known == tail,
        Place::TailStart => tail.starts_with(known),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(names: &[&str]) -> QuantSigns {
        let mut signs = QuantSigns::default();
        for name in names {
            signs.name(name);
        }
        signs
    }

    #[test]
    fn signs_are_named_as_they_are_found_with_the_tool_that_leaves_them() {
        let found = signs(&["a.q_proj.SCB", "b.q_proj.SCB", "a.q_proj.weight", "a.q_proj.weight_format"]);
        assert_eq!(found.to_string(), "2 tensors `….SCB`, a tensor `….weight_format`");
        assert_eq!(found.tool(), Some(QuantTool::BitsAndBytes));
        let mut found = signs(&["a.q.weight_scale", "a.q.deq_scale"]);
        assert_eq!(found.tool(), Some(QuantTool::MsModelSlim), "weight_scale alone could be of others");
        found.file("quant_model_description_w8a8.json");
        found.file("quantize.json");
        found.config("quantization_config", Some("ascend"));
        assert!(
            found.to_string().ends_with(
                "the file `quant_model_description_w8a8.json`, `quantization_config` of config.json (ascend)"
            )
        );
        assert_eq!(signs(&["a.q.weight.quant_state.bitsandbytes__nf4"]).tool(), Some(QuantTool::BitsAndBytes));
        assert_eq!(signs(&["a.q.qweight", "a.q.scales"]).tool(), Some(QuantTool::Gptq));
    }

    #[test]
    fn names_of_known_kinds_and_what_only_resembles_a_sign_are_none() {
        let wq = "model.layers.0.attention.wq";
        for name in [
            &format!("{wq}._layer.matmul.weight_scale"),
            &format!("{wq}.input_scale"),
            "my.dequant_scale_stats",
            "SCB",
            "model.scales.weight",
            "model.layers.0.attention.wq.weight",
        ] {
            assert!(!QuantSigns::is_one(name), "{name}");
        }
    }

    #[test]
    fn every_spelling_of_an_8_bit_float_is_known() {
        for dtype in ["F8_E4M3", "F8_E5M2", "F8_E8M0", "torch.float8_e4m3fn", "Float8_E4M3FN", "HiFloat8"] {
            assert_eq!(QuantTool::of_dtype(dtype), Some(QuantTool::Fp8), "{dtype}");
        }
        assert_eq!(QuantTool::of_dtype("F64"), None);
        assert_eq!(QuantTool::of_dtype("torch.complex64"), None);
    }
}
