// The engine: made once per machine, chosen once per process.
export { createEngine, currentEngine } from './engine/create-engine.ts';
export type { Engine, EngineName, EngineOptions } from './engine/create-engine.ts';
export { measureMatmulRate } from './engine/matmul-rate.ts';
export type { MatmulRate } from './engine/matmul-rate.ts';
export { setupEngine } from './setup/setup-engine.ts';
export type { SetupOptions, SetupReport } from './setup/setup-engine.ts';
// Who owns which tensor.
export { cloneTensor, cloneTree, countTensors, defineOp, disposeTree, listTensors } from './ownership.ts';
export { mapTree, readHost, readHostSync, replaceTree, runOp, tidy } from './ownership.ts';
export type { TensorTree } from './ownership.ts';
// The part of TensorFlow.js that the packages above use. Only this package imports it, and from the union package, because
// only that registers gradients. Functions, never methods: methods depend on import side effects.
export { Tensor, Variable, cast, clone, concat, expandDims, gather, keep, pad } from '@tensorflow/tfjs';
export { reshape, slice, split, squeeze, stack, tile, transpose, unstack } from '@tensorflow/tfjs';
export { eye, fill, linspace, oneHot, ones, onesLike, range, scalar } from '@tensorflow/tfjs';
export { tensor, tensor1d, tensor2d, tensor3d, tensor4d, variable, zeros, zerosLike } from '@tensorflow/tfjs';
export {
  abs,
  add,
  addN,
  cos,
  cumsum,
  div,
  equal,
  erf,
  exp,
  greater,
  log,
  maximum,
  minimum,
  mul,
} from '@tensorflow/tfjs';
export {
  neg,
  pow,
  relu,
  rsqrt,
  sigmoid,
  sin,
  softplus,
  sqrt,
  square,
  sub,
  tanh,
  where,
} from '@tensorflow/tfjs';
export { argMax, logSumExp, matMul, max, mean, min, norm, softmax, sum } from '@tensorflow/tfjs';
export { customGrad, grad, grads, memory, train, valueAndGrads, variableGrads } from '@tensorflow/tfjs';
export type { Rank, Scalar, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
export type { Tensor3D, Tensor4D, TensorContainer, TensorLike } from '@tensorflow/tfjs';
export type { DataType, MemoryInfo, NamedTensorMap, Optimizer, TypedArray } from '@tensorflow/tfjs';
// What operations are made of.
export { assertCount, assertDivides, assertShape } from './ops/assert-shape.ts';
export type { Dims } from './ops/assert-shape.ts';
export { toHostIndex, toIndexTensor } from './ops/index-tensor.ts';
export type { IndexTensor } from './ops/index-tensor.ts';
export { runOnTape } from './ops/pair.ts';
export type { Forward, OperationPair } from './ops/pair.ts';
export { assertRowPlan, countPairs, planRows } from './ops/row-plan.ts';
export type { RowPlan } from './ops/row-plan.ts';
export type { Activation } from './ops/activation.ts';
export { fromTfjs } from './ops/from-tfjs.ts';
export type { TfjsPair, TfjsSaved } from './ops/from-tfjs.ts';
export { globalNorm } from './ops/global-norm.ts';
export type { GlobalNorm } from './ops/global-norm.ts';
// Operations as pairs of forward and backward.
export { combineRows, combineRowsBackward, combineRowsForward } from './ops/combine-rows.ts';
export type { CombineRowsGradients, CombineRowsSaved } from './ops/combine-rows.ts';
export { embedding, embeddingBackward, embeddingForward } from './ops/embedding.ts';
export type { EmbeddingGradients, EmbeddingSaved } from './ops/embedding.ts';
export { gatherRows, gatherRowsBackward, gatherRowsForward } from './ops/gather-rows.ts';
export type { GatherRowsGradients, GatherRowsSaved } from './ops/gather-rows.ts';
export { gatherScores, gatherScoresBackward, gatherScoresForward } from './ops/gather-scores.ts';
export type { GatherScoresGradients, GatherScoresSaved } from './ops/gather-scores.ts';
export { linear, linearAddForward, linearBackward, linearForward } from './ops/linear.ts';
export type { LinearGradients, LinearSaved } from './ops/linear.ts';
export { rmsNorm, rmsNormBackward, rmsNormForward } from './ops/rms-norm.ts';
export type { RmsNormGradients, RmsNormOptions, RmsNormSaved } from './ops/rms-norm.ts';
export { softmaxCrossEntropy, softmaxCrossEntropyBackward } from './ops/softmax-cross-entropy.ts';
export { softmaxCrossEntropyForward } from './ops/softmax-cross-entropy.ts';
export type { SoftmaxCrossEntropyGradients } from './ops/softmax-cross-entropy.ts';
export type { SoftmaxCrossEntropyOptions } from './ops/softmax-cross-entropy.ts';
export type { SoftmaxCrossEntropySaved } from './ops/softmax-cross-entropy.ts';
export type { SoftmaxCrossEntropyValue } from './ops/softmax-cross-entropy.ts';
export { topK, topKBackward, topKForward } from './ops/top-k.ts';
export type { TopKGradients, TopKSaved, TopKValue } from './ops/top-k.ts';
export { attention, attentionBackward, attentionForward } from './ops/attention.ts';
export type { AttentionGradients, AttentionOptions } from './ops/attention.ts';
export type { AttentionSaved, AttentionSizes } from './ops/attention.ts';
export { expertFeedForward, expertFeedForwardBackward } from './ops/expert-feed-forward.ts';
export { expertFeedForwardForward } from './ops/expert-feed-forward.ts';
export type { ExpertFeedForwardGradients, ExpertFeedForwardOptions } from './ops/expert-feed-forward.ts';
export type { ExpertFeedForwardSaved } from './ops/expert-feed-forward.ts';
export { feedForward, feedForwardBackward, feedForwardForward } from './ops/feed-forward.ts';
export type { FeedForwardGradients, FeedForwardSaved, PlainWeights } from './ops/feed-forward.ts';
export { gatedFeedForward, gatedFeedForwardBackward } from './ops/gated-feed-forward.ts';
export { gatedFeedForwardForward } from './ops/gated-feed-forward.ts';
export type { FeedForwardOptions, GatedFeedForwardGradients } from './ops/gated-feed-forward.ts';
export type { GatedFeedForwardSaved, GatedWeights } from './ops/gated-feed-forward.ts';
export { groupedMatmul, groupedMatmulBackward, groupedMatmulForward } from './ops/grouped-matmul.ts';
export type { GroupedMatmulGradients, GroupedMatmulSaved } from './ops/grouped-matmul.ts';
export { headNormRope, headNormRopeBackward, headNormRopeForward } from './ops/head-norm-rope.ts';
export type { HeadNormRopeGradients, HeadNormRopeOptions, HeadNormRopeSaved } from './ops/head-norm-rope.ts';
export { rotaryTable } from './ops/rotary.ts';
export type { RotaryTable, RotaryTableOptions } from './ops/rotary.ts';
export { linearsBackward, linearsForward } from './ops/linears.ts';
export type { LinearsGradients, LinearsSaved } from './ops/linears.ts';
// Inference only: no backward.
export { cachedAttention } from './ops/cached-attention.ts';
export type { CachedAttentionOptions } from './ops/cached-attention.ts';
export { createKvCache } from './cache/kv-cache.ts';
export type { KvCache, KvCacheOptions, KvView } from './cache/kv-cache.ts';
export { cachedAttentionBlock } from './ops/cached-attention-block.ts';
export type { AttentionBlockOptions, AttentionBlockWeights } from './ops/cached-attention-block.ts';
export { normLinears } from './ops/norm-linears.ts';
export { routedBlock } from './ops/routed-block.ts';
export type { RoutedBlockOptions, RoutedBlockValue, RoutedBlockWeights } from './ops/routed-block.ts';
// Parameters and their owner.
export { createParameterStore } from './parameters/parameter-store.ts';
export type { CaptureOptions, Gradients, ParameterInit } from './parameters/parameter-store.ts';
export type { ParameterStore, UnitId, UpdateOptions } from './parameters/parameter-store.ts';
export type { UpdateReport } from './parameters/parameter-store.ts';
export type { OptimizerState } from './parameters/parameter-slot.ts';
export type { ParameterTreatment, Treatments } from './parameters/update-plan.ts';
export { exportParameters, importParameters } from './parameters/parameter-state.ts';
export type { Snapshot, SnapshotUnit } from './parameters/snapshot.ts';
// What changes parameters.
export { optimizers } from './parameters/choose-optimizer.ts';
export type { CustomOptimizerSettings, OptimizerSettings } from './parameters/choose-optimizer.ts';
export type { AdamWNumbers, AdamWSettings } from './parameters/adamw.ts';
export type { SgdSettings } from './parameters/sgd.ts';
export { notForMuon } from './parameters/muon.ts';
export type { MuonSettings } from './parameters/muon.ts';
export { orthogonalize, orthogonalizeFlops } from './parameters/newton-schulz.ts';
export { defineOptimizer } from './parameters/optimizer.ts';
export type { CommonSettings, FusedCall, FusedUpdate } from './parameters/optimizer.ts';
export type { OptimizerDefinition, ParameterId, RuleChoice } from './parameters/optimizer.ts';
export type { RulePart, RuleResult, RuleState } from './parameters/optimizer.ts';
export type { UpdateRule, WeightDecayRule } from './parameters/optimizer.ts';
// A look inside.
export { profileOperations } from './native/profile-operations.ts';
export type { OperationCost } from './native/profile-operations.ts';
