//! Types for a size: which tensors get more bits, so that the file fits and the predictions stay closest.
//!
//! # Design
//!
//! What a type costs a tensor is measured (see `calibrate::sensitivity`) and taken to add up over tensors. `choose`
//! then spends the bytes where they avoid most divergence. Tensors whose type was asked for keep it; those that are
//! never quantized stay as they are.

mod args;
mod choose;

use std::collections::HashMap;
use std::path::Path;

use smolt::blocks::BlockType;
use smolt::gguf::{EMBEDDING_TENSOR, GgufFile, HEAD_TENSOR, Recipe};

pub(crate) use self::args::{Budget, BudgetArgs};
use self::choose::{Offer, choose};
use crate::calibrate::{CalibrateOptions, PROBE, Sensitivity, sensitivities, units};
use crate::plan::{PlannedTensor, bytes_as};
use crate::{Plan, QuantizeError, QuantizeOptions};

/// Alignment of tensors in a file.
const ALIGNMENT: u64 = 32;

/// The types that may be chosen where none are named.
pub(crate) const MENU: &[BlockType] = &[
    BlockType::Q4_0,
    BlockType::IQ4NL,
    BlockType::Q4_1,
    BlockType::Q4K,
    BlockType::Q5_0,
    BlockType::Q5_1,
    BlockType::Q5K,
    BlockType::Q6K,
    BlockType::Q8_0,
];

/// Chooses types, and measures what for that is needed.
pub(crate) struct Allocation<'a, 't> {
    pub(crate) input: &'a GgufFile,
    /// Names and contents of the calibration texts.
    pub(crate) texts: &'t [(String, String)],
    pub(crate) calibrate: CalibrateOptions,
    pub(crate) budget: Budget,
    /// Types that may be chosen.
    pub(crate) menu: Vec<BlockType>,
    /// Where the measurement is kept, if it is.
    pub(crate) journal: Option<&'t Path>,
}

impl<'a> Allocation<'a, '_> {
    /// A recipe with which every tensor whose type may be chosen is stored as the type that is tried.
    fn probing(&self, options: &QuantizeOptions) -> Result<Plan<'a>, QuantizeError> {
        let recipe = options.recipe;
        let open = Plan::new(self.input, options)?;
        let free = open.tensors().iter().filter(|tensor| tensor.is_free);
        let chosen = free.map(|tensor| (tensor.source.name.clone(), PROBE)).collect();
        Plan::new(self.input, &QuantizeOptions { recipe, chosen, strict: false, ..options.clone() })
    }

    /// Units of progress of [`Self::plan`].
    ///
    /// # Errors
    /// If the input is no model that can be run.
    pub(crate) fn units(&self) -> Result<u64, QuantizeError> {
        units(self.input)
    }

    /// Plans the output: `options` with the chosen types. `progress` gets the number of units just done.
    ///
    /// # Errors
    /// If the budget is too small, or as calibration.
    pub(crate) fn plan(
        &self,
        options: &QuantizeOptions,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Plan<'a>, QuantizeError> {
        let probing = self.probing(options)?;
        let how = (&self.calibrate, self.menu.as_slice());
        let found = sensitivities(&probing, self.texts, how, self.journal, progress)?;
        let chosen = self.chosen(&probing, &found)?;
        let recipe = self.recipe(&probing, &chosen, options.recipe);
        Plan::new(self.input, &QuantizeOptions { recipe, chosen, ..options.clone() })
    }

    /// The types of all tensors that were measured.
    fn chosen(
        &self,
        probing: &Plan<'_>,
        found: &[Sensitivity],
    ) -> Result<HashMap<String, BlockType>, QuantizeError> {
        let planned: HashMap<&str, &PlannedTensor> =
            probing.tensors().iter().map(|tensor| (tensor.source.name.as_str(), tensor)).collect();
        let found: Vec<(&PlannedTensor, &Sensitivity)> =
            found.iter().filter_map(|one| Some((*planned.get(one.tensor.as_str())?, one))).collect();
        // The type of the others was asked for, or their lattice decides it.
        let found: Vec<_> = found.into_iter().filter(|(tensor, _)| tensor.is_free).collect();
        let padded = |bytes: u64| bytes.next_multiple_of(ALIGNMENT);
        let offers: Vec<Vec<Offer>> = found
            .iter()
            .map(|(tensor, one)| {
                let offer = |(block_type, damage): &(BlockType, f64)| Offer {
                    bytes: padded(bytes_as(&tensor.source, *block_type)),
                    damage: *damage,
                };
                one.damage.iter().map(offer).collect()
            })
            .collect();
        let probed: u64 = found.iter().map(|(tensor, _)| padded(tensor.bytes)).sum();
        let others = probing.file_bytes().saturating_sub(probed);
        let budget = self.budget.bytes(probing);
        let smallest = || offers.iter().filter_map(|all| all.iter().map(|one| one.bytes).min()).sum::<u64>();
        let too_small = || QuantizeError::Budget { asked: budget, least: others + smallest() };
        let types =
            choose(&offers, budget.checked_sub(others).ok_or_else(too_small)?).ok_or_else(too_small)?;
        let chosen = found.iter().zip(types).map(|((_, one), at)| (one.tensor.clone(), one.damage[at].0));
        Ok(chosen.collect())
    }

    /// The recipe that names the type of most weights; what was asked for the embedding and the head stays.
    fn recipe(&self, probing: &Plan<'_>, chosen: &HashMap<String, BlockType>, asked: Recipe) -> Recipe {
        let mut weights: HashMap<BlockType, usize> = HashMap::new();
        for tensor in probing.tensors() {
            if let Some(block_type) = chosen.get(&tensor.source.name) {
                *weights.entry(*block_type).or_default() += tensor.source.elements();
            }
        }
        let most = weights.into_iter().max_by_key(|(block_type, count)| (*count, block_type.id()));
        let name = most.map_or(PROBE, |(block_type, _)| block_type).name();
        let mut recipe: Recipe = name.parse().unwrap_or(asked);
        for (tensor, with) in
            [(EMBEDDING_TENSOR, Recipe::with_embedding as fn(_, _) -> _), (HEAD_TENSOR, Recipe::with_head)]
        {
            if let Some(block_type) = asked.asked_for(tensor) {
                recipe = with(recipe, block_type);
            }
        }
        recipe
    }
}
