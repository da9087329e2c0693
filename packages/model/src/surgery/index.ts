// Surgery on models: folders and models as numbers, made sparse or dense, with more or fewer experts.
export { describeBuffers } from '../describe-parameters.ts';
export { editModelExperts } from './edit-model.ts';
export type { EditModelOptions, ModelEdit } from './edit-model.ts';
export { measureCoActivations } from './measure-co-activations.ts';
export { mergeModel } from './merge-model.ts';
export type { MergeModelOptions } from './merge-model.ts';
export { modelOfValues, openModelValues, saveModelValues, valuesOfModel } from './model-values.ts';
export type { ModelValues } from './model-values.ts';
export type { Surgery, SurgeryReport, TensorFate, TensorOrigin } from './operate.ts';
export { upcycleModel } from './upcycle-model.ts';
export type { UpcycleModelOptions } from './upcycle-model.ts';
