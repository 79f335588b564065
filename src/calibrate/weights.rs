//! The weights of the whole, unfused model in single precision, read from whatever ranks the source has.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::CalibrateError;
use crate::engine::kernels::OutputReader;
use crate::formats::SAFETENSORS;
use crate::model::FusionLayout;
use crate::model::Model;
use crate::model::naming::decoder_layer;
use crate::plan::{
    Arrangement, Catalog, Evidence, PlanOptions, Precision, SourceFile, TargetOptions, build, prove, targets,
};
use crate::storage::LocalBlob;
use crate::tensor::Dtype;

/// Bytes of an element.
const WIDTH: usize = size_of::<f32>();

/// Bytes that one thread reads at a time at least.
const SHARE: usize = 4 << 20;

/// A plan of the whole model, none of which is written: it is read piece by piece.
#[derive(Debug)]
pub struct Weights {
    output: OutputReader,
    /// Each parameter's dimensions, and where it would begin in the file.
    places: HashMap<String, (Vec<u64>, u64)>,
}

impl Weights {
    /// Plans the whole model. `mappings`: those of the files, in their order.
    ///
    /// # Errors
    /// A source that makes no whole model.
    pub fn new(
        files: &[SourceFile<'_>],
        evidence: &dyn Evidence,
        catalog: &Catalog,
        spec: &Model,
        mappings: Vec<Arc<LocalBlob>>,
    ) -> Result<Self, CalibrateError> {
        let target = TargetOptions {
            spec: Some(spec),
            arrangement: Arrangement::Rules(1),
            fusion: FusionLayout::RankConcat,
            fused: false,
            vocabulary_whole: true,
        };
        let single = Precision::To(Dtype::F32);
        let options = PlanOptions {
            precision: single,
            norms: single,
            format: SAFETENSORS,
            crc: false,
            padding: false,
            whole: None,
        };
        let plan = build(files, catalog, targets(catalog, files, evidence, &target)?, &options)?;
        prove(&plan)?;
        let mut places = HashMap::new();
        for output in plan.outputs.iter().take(1) {
            for (tensor, extents) in output.tensors.iter().zip(output.layout.extents(output.tensors.len())) {
                let place = extents.as_contiguous().filter(|_| tensor.dtype == Dtype::F32);
                if let Some(place) = place {
                    places.insert(tensor.name.to_string(), (tensor.shape.dims().to_vec(), place.start()));
                }
            }
        }
        Ok(Self { output: OutputReader::new(plan, mappings), places })
    }

    /// The names of a layer's parameters in the layer.
    pub(super) fn of_layer(&self, layer: u32) -> Vec<&str> {
        let of = |name| decoder_layer(name).filter(|(found, _)| *found == layer).map(|(_, in_layer)| in_layer);
        self.places.keys().filter_map(|name| of(name)).collect()
    }

    /// Whether there is a parameter of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The dimensions of a parameter.
    pub(super) fn dims(&self, name: &str) -> Result<&[u64], CalibrateError> {
        let missing = || CalibrateError::Model(format!("the source has no `{name}`"));
        self.places.get(name).map(|(dims, _)| dims.as_slice()).ok_or_else(missing)
    }

    /// Elements `first ..` of a parameter, as many as there is space for.
    pub(super) fn read(&self, name: &str, first: usize, into: &mut [f32]) -> Result<(), CalibrateError> {
        let place = self.places.get(name);
        let (dims, at) = place.ok_or_else(|| CalibrateError::Model(format!("no `{name}`")))?;
        let end = (first + into.len()) as u64;
        if end > dims.iter().product() {
            return Err(CalibrateError::Model(format!("`{name}` ends before element {end}")));
        }
        let share = into.len().div_ceil(rayon::current_num_threads()).max(SHARE / WIDTH);
        let one = |number: usize, part: &mut [f32]| {
            let from = at + ((first + number * share) * WIDTH) as u64;
            self.output.read(0, from, bytemuck::cast_slice_mut(part));
            if cfg!(target_endian = "big") {
                for value in part {
                    *value = f32::from_bits(value.to_bits().swap_bytes());
                }
            }
        };
        // What is one share is read here: another thread costs more than a row of an embedding.
        into.par_chunks_mut(share).enumerate().for_each(|(number, part)| one(number, part));
        Ok(())
    }
}
