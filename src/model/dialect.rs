//! Whose names the tensors of a checkpoint have.

use std::collections::BTreeSet;

use super::companion::Companion;
use super::family::Family;
use super::fusion::FusionLayout;
use super::param::{ParamId, Sizes};
use super::pattern::Captures;
use super::registry::families;
use super::scheme::{EXPERT, Row, Scheme};

/// The names of a checkpoint: a family, and those of its schemes that the names may be of.
#[derive(Clone, Debug)]
pub struct Dialect {
    family: &'static Family,
    /// The first that knows a name counts.
    schemes: Vec<&'static Scheme>,
    /// The names lack the prefix of a whole model: it was saved without its head (`LlamaModel` instead of `LlamaForCausalLM`).
    bare: bool,
}

/// What is stored under a name.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// The row of the name, or of the weight whose companion it is.
    pub row: &'static Row,
    /// What the name captures.
    pub captures: Captures,
    /// Of a companion of the row's weight: which.
    pub companion: Option<&'static Companion>,
}

/// A tensor in which several are joined, and the names that they have by themselves.
#[derive(Clone, Debug)]
pub struct Join {
    /// The joined one.
    pub whole: Stored,
    /// Its parts, in order.
    pub parts: Vec<Stored>,
}

/// What a name is.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A parameter, several in one, or what goes with them.
    Stored(Stored),
    /// A buffer that holds nothing of the model, and that every network computes by itself.
    Buffer,
    /// A name that the family does not have.
    Unknown,
}

/// Schemes of MindSpore's side, in the order in which they are tried. The fused ones of mindformers are two with the same names.
const OF_MINDSPORE: [&str; 3] = ["mindformers", "mcore/split", "mcore"];
/// Schemes of Hugging Face's side, in the order in which a target takes one.
const OF_HUGGING_FACE: [&str; 2] = ["hf/v4", "hf"];
/// Meta's releases.
const META: &str = "meta";

impl Dialect {
    /// The names of MindSpore's checkpoints. `order`: the order of fused rows, `rank-concat` or `grouped`.
    pub fn mindspore(family: &'static Family, order: &str) -> Self {
        let fused = format!("mindformers/{order}");
        let names = OF_MINDSPORE[..1].iter().copied().chain([fused.as_str()]).chain(OF_MINDSPORE[1..].iter().copied());
        Self { family, schemes: names.filter_map(|name| family.scheme(name)).collect(), bare: false }
    }

    /// What MindSpore's checkpoints of some family store under a name: of the first family that has it.
    pub fn of_any_family(name: &str) -> Option<(&'static Family, Stored)> {
        families().iter().find_map(|&family| {
            match Self::mindspore(family, FusionLayout::default().name()).place(name) {
                Place::Stored(stored) => Some((family, stored)),
                Place::Buffer | Place::Unknown => None,
            }
        })
    }

    /// The names of one scheme; `None` where the family has none of that name.
    pub fn of(family: &'static Family, scheme: &str) -> Option<Self> {
        Some(Self { family, schemes: vec![family.scheme(scheme)?], bare: false })
    }

    /// The names that Hugging Face's files have, in the form in which models are published; `None` where the family has none.
    pub fn hugging_face(family: &'static Family) -> Option<Self> {
        OF_HUGGING_FACE.iter().find_map(|scheme| Self::of(family, scheme))
    }

    /// Meta's names; `None` where the family has none.
    pub fn meta(family: &'static Family) -> Option<Self> {
        Self::of(family, META)
    }

    /// Whether a scheme is one of MindSpore's side.
    pub(super) fn is_mindspore(scheme: &Scheme) -> bool {
        let name = &scheme.name;
        OF_MINDSPORE
            .iter()
            .any(|own| name.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// The same names without the prefix of a whole model.
    #[must_use]
    pub fn without_prefix(self) -> Self {
        Self { bare: true, ..self }
    }

    /// The family.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// The schemes.
    pub fn schemes(&self) -> &[&'static Scheme] {
        &self.schemes
    }

    /// Whether the names are Meta's.
    pub fn is_meta(&self) -> bool {
        self.schemes.iter().any(|scheme| scheme.name == META)
    }

    /// Whether any row is in an order of the heads: which rows are which is known only with their number.
    pub fn is_by_heads(&self) -> bool {
        let heads = self.family.axis("KvHead");
        let rows = self.schemes.iter().flat_map(|scheme| &scheme.rows);
        heads.is_some_and(|heads| rows.into_iter().any(|row| row.pack.outer.contains(&heads)))
    }

    /// Whether the names lack the prefix of a whole model.
    pub fn is_bare(&self) -> bool {
        self.bare
    }

    /// What a name is.
    pub fn place(&self, name: &str) -> Place {
        if self.bare {
            let whole = format!("{}{name}", self.family.base_prefix());
            // The head is outside the prefix.
            return match self.place_whole(&whole) {
                Place::Unknown => self.place_whole(name),
                found => found,
            };
        }
        self.place_whole(name)
    }

    fn place_whole(&self, name: &str) -> Place {
        if let Some(found) = self.schemes.iter().find_map(|scheme| scheme.find(name)) {
            let (row, captures) = found;
            return Place::Stored(Stored { row, captures, companion: None });
        }
        if self.family.is_buffer(name) {
            return Place::Buffer;
        }
        let companion = self.schemes.iter().find_map(|scheme| scheme.companions(self.family, name));
        match companion.and_then(|(row, captures, found)| {
            Some((row, captures, found.into_iter().find(|found| found.quantity.is_converted())?))
        }) {
            Some((row, captures, companion)) => Place::Stored(Stored { row, captures, companion: Some(companion) }),
            None => Place::Unknown,
        }
    }

    /// What is stored under a name that may begin with something else, as the states of an optimizer do, and what it begins with.
    pub fn place_after<'a>(&self, name: &'a str) -> Option<(&'a str, Stored)> {
        let rows = self.schemes.iter().flat_map(|scheme| &scheme.rows);
        let starts: BTreeSet<&str> = rows.filter_map(|row| row.pattern.first_component()).collect();
        let begins = starts.iter().flat_map(|start| name.match_indices(start)).filter(|(at, _)| *at > 0);
        begins.into_iter().find_map(|(at, _)| match self.place(&name[at..]) {
            Place::Stored(stored) => Some((&name[..at], stored)),
            Place::Buffer | Place::Unknown => None,
        })
    }

    /// The name under which a row is stored, or a companion of it. `None`: a capture is missing.
    pub fn name(&self, stored: &Stored) -> Option<String> {
        let name = stored.name()?;
        Some(match name.strip_prefix(self.family.base_prefix()) {
            Some(rest) if self.bare => rest.to_owned(),
            _ => name,
        })
    }

    /// The joined tensor that this is, or is a part of. `None`: the dialect has both forms of neither.
    pub fn join(&self, stored: &Stored) -> Option<Join> {
        let of = |row: &'static Row| Stored { row, ..*stored };
        let rows = || self.schemes.iter().flat_map(|scheme| &scheme.rows);
        let row = if stored.is_joined() {
            stored.row
        } else {
            let param = stored.row.params().next()?;
            rows().find(|row| row.params().count() > 1 && row.params().any(|found| found == param))?
        };
        let alone = |param: u16| rows().find(|row| row.params().eq([param])).map(of);
        Some(Join { whole: of(row), parts: row.params().map(alone).collect::<Option<_>>()? })
    }

    /// The same in the fused form: the joined tensor that it is a part of, else what it is in the scheme that joins others.
    pub fn fused(&self, stored: &Stored) -> Stored {
        if let Some(join) = self.join(stored) {
            return join.whole;
        }
        let joins = |scheme: &&&'static Scheme| scheme.rows.iter().any(|row| row.params().count() > 1);
        let same = |scheme: &&'static Scheme| scheme.rows.iter().find(|row| row.params().eq(stored.row.params()));
        let row = self.schemes.iter().filter(joins).find_map(same).unwrap_or(stored.row);
        Stored { row, ..*stored }
    }

    /// The names of a row that are for each expert, where its name numbers them; else the one of it.
    pub fn by_expert(&self, stored: &Stored, sizes: Option<&Sizes>) -> Vec<Stored> {
        if !stored.row.pattern.has_expert() {
            return vec![*stored];
        }
        let experts = sizes.and_then(|sizes| Some(sizes.of(self.family.axis(EXPERT)?))).unwrap_or(0);
        let of = |expert| Stored { captures: Captures { expert: Some(expert), ..stored.captures }, ..*stored };
        (0..u32::try_from(experts).unwrap_or(0)).map(of).collect()
    }

    /// The row that holds a parameter: of the first scheme that has one.
    pub fn row_of(&self, param: u16) -> Option<&'static Row> {
        self.schemes.iter().find_map(|scheme| scheme.row_of(param))
    }

    /// The dialect of MindSpore's that explains the most names. Where several do alike, the family that is usual. `None`: none
    /// explains any.
    pub fn recognise_mindspore<'a>(names: impl IntoIterator<Item = &'a str>, order: &str) -> Option<Self> {
        // The same of all layers is one.
        let kinds: BTreeSet<String> = names.into_iter().map(first_layer).collect();
        let count =
            |dialect: &Self| kinds.iter().filter(|name| matches!(dialect.place(name), Place::Stored(_))).count();
        let found = families().iter().map(|&family| {
            let dialect = Self::mindspore(family, order);
            (count(&dialect), family.usual, std::cmp::Reverse(family.params().len()), dialect)
        });
        let best = found.max_by_key(|(count, usual, params, _)| (*count, *usual, *params))?;
        (best.0 > 0).then_some(best.3)
    }
}

/// A name with its numbers replaced by 0.
pub(super) fn first_layer(name: &str) -> String {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    name.split('.').map(|part| if number(part) { "0" } else { part }).collect::<Vec<_>>().join(".")
}

impl Stored {
    /// The name. `None`: a capture is missing.
    pub fn name(&self) -> Option<String> {
        match self.companion {
            None => self.row.pattern.name(self.captures),
            Some(companion) => {
                let layer = self.row.pattern.without(".weight")?.name(self.captures)?;
                Some(format!("{layer}.{}", companion.tail))
            }
        }
    }

    /// The parameters in it.
    pub fn params(&self) -> impl Iterator<Item = ParamId> + '_ {
        self.row.params().map(|param| ParamId { param, layer: self.captures.layer })
    }

    /// The dimensions of the file in which several parameters are joined; `None`: it is one, or all are the same.
    pub fn is_joined(&self) -> bool {
        self.row.params().count() > 1
    }

    /// Whether every part is the whole tensor: what belongs to the input of a fused layer.
    pub fn is_shared(&self) -> bool {
        self.companion.is_some_and(Companion::is_of_input)
    }
}

impl Family {
    /// The name of a parameter, or of a companion of it, by itself: as MindSpore's schemes have it, else as any other has it, else
    /// a name of the family file's.
    pub fn own_name(&'static self, id: ParamId, companion: Option<&'static Companion>) -> String {
        let all = OF_MINDSPORE.iter().filter_map(|name| self.scheme(name)).chain(&self.schemes);
        let captures = Captures { layer: id.layer, expert: None };
        let alone = |row: &&Row| row.params().eq([id.param]);
        let name = all
            .filter_map(|scheme| scheme.rows.iter().find(alone))
            .find_map(|row| Stored { row, captures, companion }.name());
        name.unwrap_or_else(|| {
            let param = self.params().get(usize::from(id.param)).map_or("", |param| &param.id);
            let layer = id.layer.map_or_else(String::new, |layer| format!("layers.{layer}."));
            let tail = companion.map_or_else(String::new, |companion| format!(".{}", companion.tail));
            format!("{layer}{param}{tail}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{builtin_families, builtin_family};

    fn name_of(place: Place) -> Option<String> {
        match place {
            Place::Stored(stored) => stored.name(),
            Place::Buffer | Place::Unknown => None,
        }
    }

    #[test]
    fn a_name_is_what_the_schemes_say() {
        let dialect = Dialect::mindspore(builtin_family("llama").unwrap(), "grouped");
        for name in [
            "model.layers.3.attention.w_qkv.weight",
            "model.layers.3.attention.wq.weight",
            "model.layers.3.attention.w_qkv._layer.matmul.t_scale",
            "model.layers.3.feed_forward.w2.mindpet_delta_lora_a",
            "lm_head.weight",
        ] {
            assert_eq!(name_of(dialect.place(name)).as_deref(), Some(name));
        }
        for name in ["adam_m.lm_head.weight", "model.layers.03.attention.wq.weight", "model.layers.3.attention.wq.bias"]
        {
            assert!(matches!(dialect.place(name), Place::Unknown), "{name}");
        }
        let (start, stored) = dialect.place_after("adam_m.model.layers.3.attention.w_qkv.weight").unwrap();
        assert_eq!((start, stored.is_joined()), ("adam_m.", true));
    }

    #[test]
    fn a_model_without_its_head_lacks_the_prefix() {
        let dialect = Dialect::of(builtin_family("llama").unwrap(), "hf").unwrap().without_prefix();
        let Place::Stored(stored) = dialect.place("layers.0.self_attn.q_proj.weight") else { panic!("unknown") };
        assert_eq!(dialect.name(&stored).unwrap(), "layers.0.self_attn.q_proj.weight");
        assert!(matches!(dialect.place("layers.0.self_attn.rotary_emb.inv_freq"), Place::Buffer));
        assert!(matches!(dialect.place("lm_head.weight"), Place::Stored(_)));
    }

    #[test]
    fn names_of_mindspore_are_of_the_family_that_explains_the_most() {
        let of = |names: &[&str]| {
            let found = Dialect::recognise_mindspore(names.iter().copied(), "rank-concat");
            found.map(|dialect| dialect.family().name.as_str())
        };
        let llama = ["model.layers.1.attention.wq.weight", "model.layers.0.ffn_norm.weight"];
        assert_eq!(of(&llama), Some("llama"));
        assert_eq!(of(&[llama[0], "model.layers.1.attention.wq.bias"]), Some("qwen2"));
        assert_eq!(of(&["decoder.layers.0.self_attention.q_layernorm.weight"]), Some("qwen3"));
        assert_eq!(of(&["bert.encoder.layer.0.output.dense.weight"]), None);
    }

    #[test]
    fn every_parameter_has_a_name_of_its_own() {
        for family in builtin_families() {
            let mut names = BTreeSet::new();
            for (at, param) in (0..).zip(family.params()) {
                let layer = param.template.is_some().then_some(7);
                assert!(
                    names.insert(family.own_name(ParamId { param: at, layer }, None)),
                    "{} {}",
                    family.name,
                    param.id
                );
            }
        }
    }
}
