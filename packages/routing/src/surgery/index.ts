// Surgery on layers: experts as plain numbers, cut, copied, merged, added and removed. No engine, but for the distillation loss.
export { busiestExperts, mergeExperts } from './merge-experts.ts';
export type { MergeMethod } from './merge-experts.ts';
export { distillationBackward, distillationForward } from './distillation.ts';
export type { DistillationOptions, DistillationSaved, DistillationValue } from './distillation.ts';
export { editExpertRows, editOptimizerState, placesOf, planExpertEdit } from './edit-experts.ts';
export type { AddedExpert, ExpertEdit, ExpertIds, HostOptimizerState, NewRows } from './edit-experts.ts';
export { addNoise, joinExperts, scaleExpert, sizeOfExpert, splitExpert, takeNeurons } from './host-expert.ts';
export type { CutOptions, HostExpert, HostTensor, NeuronSplit } from './host-expert.ts';
export { clusterNeurons, countCoActivations, splitAtRandom, splitByCoActivation } from './split-neurons.ts';
export { meanKeyRouter, splitInOrder, upcycleExpert, upcycleExperts, upcycleFactor } from './upcycle.ts';
export { virtualGroupRouter, weightSum } from './upcycle.ts';
export type { UpcycleFactor, UpcycleOptions, VirtualGroupOptions } from './upcycle.ts';
