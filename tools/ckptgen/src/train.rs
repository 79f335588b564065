//! The same model as a training run left it: pipeline stages, data and tensor parallelism, the optimizer's shards and its state.
//!
//! Rank = (stage * dp + d) * mp + m. Weights are split over `mp` as for inference; then the optimizer shards the rows of each
//! block over the `dp` ranks that hold it (norms: over all `dp * mp`), where they divide them. Each parameter `p` has
//! `adam_m.p` and `adam_v.p` of the same layout. Layer `i` is of stage `i * pp / layers`.

use crate::model::{Job, Param};

/// A training run.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) job: Job,
    pub(crate) pp: u64,
    pub(crate) dp: u64,
}

/// How the devices of a stage share a parameter, as a strategy file says it.
pub(crate) struct Layout {
    pub(crate) name: String,
    /// For each axis the device axis that splits it, counted from the right; -1 for none.
    tensor_map: Vec<i64>,
    sharded: bool,
    step: u64,
}

impl Run {
    pub(crate) fn ranks(&self) -> u64 {
        self.pp * self.dp * self.job.ranks
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.job.check()?;
        if self.pp == 0 || self.dp == 0 || self.pp > self.job.sizes.layers {
            return Err("pp and dp must be positive, and each stage has a layer".into());
        }
        if self.job.fused {
            return Err("a training run is not fused".into());
        }
        Ok(())
    }

    fn stage_of(&self, name: &str) -> u64 {
        if name.starts_with("model.tok_embeddings") {
            return 0;
        }
        match name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
            Some((layer, _)) => layer.parse::<u64>().map_or(0, |layer| layer * self.pp / self.job.sizes.layers),
            None => self.pp - 1,
        }
    }

    /// Into how many shards the optimizer cuts a parameter's block, and which of them device (d, m) holds.
    fn shards(&self, param: &Param, d: u64, m: u64) -> (u64, u64) {
        let mp = self.job.ranks;
        let (parts, index) = if param.dims.len() == 1 { (self.dp * mp, d * mp + m) } else { (self.dp, d) };
        if param.dims[0].is_multiple_of(parts) { (parts, index) } else { (1, 0) }
    }

    /// All parameters of one rank's file, in file order.
    pub(crate) fn params(&self, rank: u64) -> Vec<Param> {
        let mp = self.job.ranks;
        let (stage, d, m) = (rank / (self.dp * mp), rank / mp % self.dp, rank % mp);
        let mut out = Vec::new();
        for state in ["", "adam_m.", "adam_v."] {
            for mut param in self.job.states(m, state) {
                if self.stage_of(param.name.trim_start_matches(state)) != stage {
                    continue;
                }
                let (parts, index) = self.shards(&param, d, m);
                param.dims[0] /= parts;
                let part = &mut param.parts[0];
                if part.runs > 1 {
                    part.runs /= parts;
                    part.start += index * part.runs * part.row;
                } else {
                    part.run /= parts;
                    part.start += index * part.run;
                }
                out.push(param);
            }
        }
        for counter in ["global_step", "learning_rate", "beta1_power", "beta2_power", "scale_sense"] {
            out.push(self.job.one(counter.into(), &[1], None, 0));
        }
        out
    }

    fn layouts(&self, stage: u64) -> Vec<Layout> {
        let mut out = Vec::new();
        for state in ["", "adam_m.", "adam_v."] {
            for param in self.job.states(0, state) {
                if self.stage_of(param.name.trim_start_matches(state)) != stage {
                    continue;
                }
                let (sharded, part) = (self.shards(&param, 0, 0).0 > 1, &param.parts[0]);
                let tensor_map = match (param.dims.len(), part.runs > 1, param.len() == self.whole(&param)) {
                    (1, ..) => vec![-1],
                    (_, true, _) => vec![-1, 0],
                    (_, _, true) => vec![-1, -1],
                    _ => vec![0, -1],
                };
                let step = if tensor_map.iter().all(|axis| *axis < 0) { 1 } else { self.job.ranks };
                out.push(Layout { name: param.name, tensor_map, sharded, step });
            }
        }
        out
    }

    /// Bytes of the whole tensor that a slice is of.
    fn whole(&self, param: &Param) -> u64 {
        let base = param.name.trim_start_matches("adam_m.").trim_start_matches("adam_v.");
        let alone = Job { ranks: 1, ..self.job };
        alone.params(0).iter().find(|p| p.name == base).map_or(0, Param::len)
    }

    /// The strategy file of a stage, as MindSpore's `node_strategy.proto` has it.
    pub(crate) fn strategy(&self, stage: u64) -> Vec<u8> {
        let mut file = Vec::new();
        number(&mut file, 1, 2);
        for layout in self.layouts(stage) {
            let mut name = Vec::new();
            bytes(&mut name, 1, layout.name.as_bytes());
            // One strategy item states the stage.
            let mut strategies = Vec::new();
            number(&mut strategies, 1, stage);
            let mut item = Vec::new();
            bytes(&mut item, 1, format!("Node_{}", layout.name).as_bytes());
            bytes(&mut item, 2, &strategies);
            bytes(&mut file, 2, &item);

            let mut matrix = Vec::new();
            number(&mut matrix, 1, self.dp);
            number(&mut matrix, 1, self.job.ranks);
            let mut map = Vec::new();
            for &axis in &layout.tensor_map {
                number(&mut map, 1, axis.cast_unsigned());
            }
            let mut layouts = Vec::new();
            bytes(&mut layouts, 1, &matrix);
            bytes(&mut layouts, 2, &map);
            bytes(&mut layouts, 3, &[]);
            bytes(&mut layouts, 4, &[]);
            number(&mut layouts, 5, 0);
            number(&mut layouts, 6, if layout.sharded { layout.step } else { 0 });
            number(&mut layouts, 7, if layout.sharded { (-1i64).cast_unsigned() } else { 0 });
            bytes(&mut name, 2, &layouts);
            bytes(&mut file, 3, &name);
        }
        file
    }
}

fn varint(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    to.push(n.to_le_bytes()[0]);
}

fn number(to: &mut Vec<u8>, field: u64, n: u64) {
    varint(to, field << 3);
    varint(to, n);
}

fn bytes(to: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(to, field << 3 | 2);
    varint(to, content.len() as u64);
    to.extend_from_slice(content);
}
