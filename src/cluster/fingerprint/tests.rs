//! What decides the bytes of a target changes its fingerprint.

use super::*;
use crate::plan::{
    Arithmetic, CacheScales, Calculation, InputScales, Inverse, LowRank, Op, OperandId, OutputTensor, Pass, PlanSource,
    Quantise, Range, Smooth, Width,
};
use crate::tensor::{Dtype, Shape};

fn tensor(name: &str) -> OutputTensor {
    OutputTensor {
        name: name.into(),
        dtype: Dtype::F16,
        shape: Shape::new([2]).unwrap(),
        first_holder: true,
        routes: Vec::new(),
    }
}

/// A matrix that is smoothed, its input, a cache, and a merged adapter.
fn plan() -> Plan {
    let range = Range { min: vec![1, 2], max: vec![3, 4] };
    let calculation = Calculation {
        name: "w".into(),
        rows: 2,
        columns: 2,
        weight: tensor("w"),
        group: 2,
        width: Width::Int8,
        arithmetic: Arithmetic::Half,
        scales: 0,
        half_scales: Some(8),
        smooth: Some(Smooth { alpha_milli: 500, factors: 16, repeat: 1, block: 2, inverse: Inverse::Input }),
        divide: None,
        input: Some(InputScales {
            range: range.clone(),
            bias: None,
            new_bias: 20,
            dequant_scales: 24,
            scales: 40,
            zero_points: 44,
        }),
    };
    let cache = CacheScales {
        name: "cache".into(),
        keys: range.clone(),
        values: range,
        divide: None,
        key_scales: vec![46],
        value_scales: vec![50],
        packed: 54,
    };
    let (a, b) = (OperandId::new(0), OperandId::new(1));
    let update = LowRank { a, b, scale: 2.0, width: 2, from: (0, 0), to: (0, 0), steps: [(1, 1)].into() };
    let quantise = Quantise {
        columns: 2,
        group: 2,
        width: Width::Int8,
        arithmetic: Arithmetic::Half,
        scales: OperandId::new(2),
        multiply: None,
        divide: None,
    };
    let source = |name: &str| PlanSource { path: name.into(), len: 4, rank: 0 };
    Plan {
        sources: vec![source("a")],
        pipelines: vec![
            [Op::AddLowRank(update), Op::Cast { from: Dtype::F32, to: Dtype::F16 }].into(),
            [Op::Quantise(quantise)].into(),
        ],
        operands: vec![tensor("a"), tensor("b"), tensor("scales")],
        passes: vec![Pass::Matrix(Box::new(calculation)), Pass::Caches(cache)],
        memory: vec![0; 70],
        ..Plan::default()
    }
}

fn update(plan: &mut Plan) -> &mut LowRank {
    let Op::AddLowRank(update) = &mut plan.pipelines[0][0] else { unreachable!("it is the first op") };
    update
}

fn quantise(plan: &mut Plan) -> &mut Quantise {
    let Op::Quantise(how) = &mut plan.pipelines[1][0] else { unreachable!("it is the first op") };
    how
}

/// Changes a plan.
type Change = fn(&mut Plan);

fn matrix(plan: &mut Plan) -> &mut Calculation {
    let Pass::Matrix(matrix) = &mut plan.passes[0] else { unreachable!("it is the first pass") };
    matrix
}

fn caches(plan: &mut Plan) -> &mut CacheScales {
    let Pass::Caches(caches) = &mut plan.passes[1] else { unreachable!("it is the second pass") };
    caches
}

#[test]
fn whatever_decides_the_bytes_changes_it() {
    let sources = [&b"abcd"[..]];
    let before = plan_id(&plan(), &sources);
    assert_eq!(plan_id(&plan(), &sources), before);
    let found = plan_id(&plan(), &[&b"abcd"[..], &b"scales"[..]]);
    assert_eq!(found, before, "it is the same whether or not what is computed is there already");
    assert_ne!(plan_id(&plan(), &[&b"abce"[..]]), before, "the source's bytes");
    let changes: [(&str, Change); 22] = [
        ("what is known of the memory", |p| p.memory[3] = 1),
        ("how its rows lie", |p| update(p).steps = [(2, 1)].into()),
        ("another precision", |p| p.pipelines[0][1] = Op::Cast { from: Dtype::F32, to: Dtype::BF16 }),
        ("one op less", |p| p.pipelines[0] = [p.pipelines[0][0].clone()].into()),
        ("an element's width", |p| quantise(p).width = Width::Int4),
        ("an element's arithmetic", |p| quantise(p).arithmetic = Arithmetic::Single),
        ("an element's scale", |p| quantise(p).scales = OperandId::new(1)),
        ("what columns are multiplied by", |p| quantise(p).multiply = Some(OperandId::new(0))),
        ("where an adapter is added", |p| update(p).to = (1, 0)),
        ("the adapter's scale", |p| update(p).scale = 1.0),
        ("a factor", |p| p.operands[1] = tensor("c")),
        ("nothing computed", |p| p.passes.clear()),
        ("the share of outliers", |p| {
            matrix(p).smooth.as_mut().unwrap().alpha_milli = 501;
        }),
        ("who divides", |p| {
            matrix(p).smooth.as_mut().unwrap().inverse = Inverse::Rows { to: 4 };
        }),
        ("no smoothing", |p| matrix(p).smooth = None),
        ("what was seen of an input", |p| matrix(p).input.as_mut().unwrap().range.max[1] = 5),
        ("a bias", |p| {
            matrix(p).input.as_mut().unwrap().bias = Some(Box::new(tensor("bias")));
        }),
        ("the arithmetic", |p| matrix(p).arithmetic = Arithmetic::Single),
        ("how many share a scale", |p| matrix(p).group = 1),
        ("int4", |p| matrix(p).width = Width::Int4),
        ("what was seen of values", |p| caches(p).values.min[0] = 9),
        ("where scales go", |p| caches(p).key_scales[0] = 48),
    ];
    for (what, change) in changes {
        let mut other = plan();
        change(&mut other);
        assert_ne!(plan_id(&other, &sources), before, "{what}");
    }
}
