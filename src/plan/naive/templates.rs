//! Layers of two kinds, numbered by themselves: what a checkpoint must hold of each.

use std::sync::LazyLock;

use super::files::{Contents, File, Tensor, evidence};
use super::random::Random;
use crate::model::{Family, Model, Value};
use crate::plan::{Arrangement, Catalog, CatalogOptions, PlanError};
use crate::tensor::{Dtype, Shape};

const FAMILY: &str = "
family: two
model_types: [two]
params:
  once: {embedding: {dims: [[Vocab], [Hidden]], cut: Vocab, role: embedding}}
  layer: {norm: {dims: [[Hidden]], role: norm}}
  mtp: {joint: {dims: [[Hidden], [Both, Width]]}, norm_of_next: {dims: [[Hidden]], role: norm}}
sizes:
  config.json: {layer: layers, mtp: next | 0, Vocab: vocab, Hidden: hidden, Width: hidden, Both: 2}
schemes:
  mcore:
    names:
      '': {embedding.weight: embedding}
      'decoder.layers.{l}.': {norm.weight: norm}
      'mtp.layers.{l}.': {eh_proj.weight: joint, enorm.weight: norm_of_next}
";

static FAMILY_OF_TWO: LazyLock<Family> = LazyLock::new(|| Family::read("two", FAMILY, &|_| None).expect("a family"));

fn catalog(next: u8, held: &[(&str, &[u64])]) -> Result<Catalog, PlanError> {
    let fields = [("layers", 3), ("next", next), ("vocab", 4), ("hidden", 2)];
    let fields = fields.map(|(name, size)| (name.to_owned(), Value::Number(f64::from(size))));
    let model = Model::read(&FAMILY_OF_TWO, "config.json", &fields.into_iter().collect()).expect("a model");
    let tensor = |(name, dims): &(&str, &[u64])| {
        let shape = Shape::new(dims.to_vec()).expect("small");
        let bytes = vec![1; usize::try_from(shape.bytes(Dtype::F32)).expect("small")];
        Tensor { name: (*name).to_owned(), dtype: Dtype::F32, shape, bytes }
    };
    let contents = Contents { rank: 0, tensors: held.iter().map(tensor).collect() };
    let files = &[File::new(&mut Random::new(1), &contents)];
    let arrangement = Arrangement::Rules(1);
    let fusion = crate::model::FusionLayout::default();
    let options =
        CatalogOptions { spec: Some(&model), arrangement, fusion, evidence: &evidence(files), ignore: &|_| false };
    let catalog = Catalog::new(&[files[0].source()], &options)?;
    catalog.check_complete(Some(true)).map(|()| catalog)
}

#[test]
fn the_layers_of_each_template_are_complete_by_themselves() {
    let decoder: [(&str, &[u64]); 4] = [
        ("embedding.weight", &[4, 2]),
        ("decoder.layers.0.norm.weight", &[2]),
        ("decoder.layers.1.norm.weight", &[2]),
        ("decoder.layers.2.norm.weight", &[2]),
    ];
    let next: [(&str, &[u64]); 2] = [("mtp.layers.0.eh_proj.weight", &[2, 4]), ("mtp.layers.0.enorm.weight", &[2])];
    let all = [&decoder[..], &next[..]].concat();
    assert_eq!(catalog(0, &decoder).expect("a model without such layers").tensors().len(), 4);
    assert_eq!(catalog(1, &all).expect("a model with one").tensors().len(), 6);
    for absent in 0..all.len() {
        let mut held = all.clone();
        let (name, _) = held.remove(absent);
        let error = catalog(1, &held).expect_err("something is missing").to_string();
        assert!(error.contains(name), "{error}");
    }
    assert!(catalog(0, &all).is_err(), "more layers than the model has");
}
