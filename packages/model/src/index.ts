export { attentionBlockForward, takeAttentionBackward } from './attention-block.ts';
export type { AttentionBlockGradients, AttentionBlockSaved, AttentionWeights } from './attention-block.ts';
export type {
  BackwardPass,
  BalanceGradient,
  Block,
  BlockInput,
  BlockInputGradient,
  BlockOutput,
  BlockOutputGradient,
  ForwardPass,
  LayerRouting,
  ParameterGradients,
  Taps,
} from './block.ts';
export { capModel, capRouters } from './cap-model.ts';
export { isSparseLayer, modelConfigToJson, parseModelConfig } from './config.ts';
export type { ModelConfig } from './config.ts';
export { countActiveParameters, countParameters, estimateBytes, estimateFlops } from './count.ts';
export type { BytesEstimate, BytesQuery, FlopsEstimate, FlopsQuery } from './count.ts';
export { createDecoderBlock, createModel } from './decoder.ts';
export type {
  AroundRouter,
  BlockContext,
  DecoderModel,
  ForwardOptions,
  LossOptions,
  ModelOptions,
  PassOptions,
  TokenBatch,
  TrainingBatch,
} from './decoder.ts';
export { describeParameters, fileShape } from './describe-parameters.ts';
export type { ParameterDescription } from './describe-parameters.ts';
export { familyOf, qwen3, qwen3Moe, supportedModelTypes } from './family.ts';
export type { FeedForwardNames, FusedExpertNames, LayerNames, ModelFamily, ModelNames } from './family.ts';
export { generate, generateBatch } from './generate.ts';
export type { GeneratedToken } from './generate.ts';
export type { GenerateOptions, PenaltyOptions, SamplingOptions } from './generate-options.ts';
export { generationConfigToJson, parseGenerationConfig, readGenerationConfig } from './generation-config.ts';
export type { GenerationConfig } from './generation-config.ts';
export { initialiseParameters } from './initialise-parameters.ts';
export { gatherStatistics } from './loss.ts';
export type {
  AuxiliaryLoss,
  BackwardOptions,
  GatheredLoss,
  LossOutput,
  LossSaved,
  WeightedLoss,
} from './loss.ts';
export { loadModel, readModelConfig } from './load-model.ts';
export { recoverModelFolder } from './steady-folder.ts';
export type { LoadModelOptions } from './load-model.ts';
export type { ModelExtension, NamedExperts, NamedRouter } from './model-extension.ts';
export { resolveParts } from './model-parts.ts';
export type { ExpertPlace, ModelParts, PartsChoice, PartsSource } from './model-parts.ts';
export { moeForward, takeMoeBackward } from './moe-block.ts';
export type { MoeBackwardScope, MoeGradients, MoeInput, MoeLayer, MoeOutput, MoeSaved } from './moe-block.ts';
export type { LayerLoad, RouterState } from './router-state.ts';
export { saveModel } from './save-model.ts';
export type { SavableModel, SavedModel, SaveModelOptions, StoredDType } from './save-model.ts';
export type { SavedBlock, TrunkOutput, TrunkSaved } from './trunk.ts';
