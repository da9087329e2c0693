export { createEngine, currentEngine } from './engine/create-engine.ts';
export type { Engine, EngineName, EngineOptions } from './engine/create-engine.ts';
export { setupEngine } from './setup/setup-engine.ts';
export type { SetupOptions, SetupReport } from './setup/setup-engine.ts';
export {
  cloneTensor,
  cloneTree,
  countTensors,
  defineOp,
  disposeTree,
  listTensors,
  mapTree,
  readHost,
  readHostSync,
  replaceTree,
  runOp,
  tidy,
} from './ownership.ts';
export type { TensorTree } from './ownership.ts';
export {
  Tensor,
  Variable,
  abs,
  add,
  addN,
  argMax,
  cast,
  clone,
  concat,
  cos,
  customGrad,
  div,
  equal,
  exp,
  expandDims,
  eye,
  fill,
  gather,
  grad,
  grads,
  keep,
  linspace,
  log,
  logSumExp,
  matMul,
  max,
  maximum,
  mean,
  memory,
  min,
  minimum,
  mul,
  neg,
  norm,
  oneHot,
  ones,
  onesLike,
  pad,
  pow,
  range,
  relu,
  reshape,
  rsqrt,
  scalar,
  sigmoid,
  sin,
  slice,
  softmax,
  split,
  sqrt,
  square,
  squeeze,
  stack,
  sub,
  sum,
  tanh,
  tensor,
  tensor1d,
  tensor2d,
  tensor3d,
  tensor4d,
  tile,
  train,
  transpose,
  unstack,
  valueAndGrads,
  variable,
  variableGrads,
  where,
  zeros,
  zerosLike,
} from './tfjs.ts';
export type {
  DataType,
  MemoryInfo,
  NamedTensorMap,
  Optimizer,
  Rank,
  Scalar,
  Tensor1D,
  Tensor2D,
  Tensor3D,
  Tensor4D,
  TensorContainer,
  TensorLike,
  TypedArray,
} from './tfjs.ts';
export { assertCount, assertDivides, assertShape } from './ops/assert-shape.ts';
export type { Dims } from './ops/assert-shape.ts';
export { combineRows, combineRowsBackward, combineRowsForward } from './ops/combine-rows.ts';
export type { CombineRowsGradients, CombineRowsSaved } from './ops/combine-rows.ts';
export { embedding, embeddingBackward, embeddingForward } from './ops/embedding.ts';
export type { EmbeddingGradients, EmbeddingSaved } from './ops/embedding.ts';
export { gatherRows, gatherRowsBackward, gatherRowsForward } from './ops/gather-rows.ts';
export type { GatherRowsGradients, GatherRowsSaved } from './ops/gather-rows.ts';
export { gatherScores, gatherScoresBackward, gatherScoresForward } from './ops/gather-scores.ts';
export type { GatherScoresGradients, GatherScoresSaved } from './ops/gather-scores.ts';
export { toHostIndex, toIndexTensor } from './ops/index-tensor.ts';
export type { IndexTensor } from './ops/index-tensor.ts';
export { linear, linearAddForward, linearBackward, linearForward } from './ops/linear.ts';
export type { LinearGradients, LinearSaved } from './ops/linear.ts';
export { runOnTape } from './ops/pair.ts';
export type { Forward, OperationPair } from './ops/pair.ts';
export { rmsNorm, rmsNormBackward, rmsNormForward } from './ops/rms-norm.ts';
export type { RmsNormGradients, RmsNormOptions, RmsNormSaved } from './ops/rms-norm.ts';
export { assertRowPlan, countPairs, planRows } from './ops/row-plan.ts';
export type { RowPlan } from './ops/row-plan.ts';
export {
  softmaxCrossEntropy,
  softmaxCrossEntropyBackward,
  softmaxCrossEntropyForward,
} from './ops/softmax-cross-entropy.ts';
export type {
  SoftmaxCrossEntropyGradients,
  SoftmaxCrossEntropyOptions,
  SoftmaxCrossEntropySaved,
  SoftmaxCrossEntropyValue,
} from './ops/softmax-cross-entropy.ts';
export { topK, topKBackward, topKForward } from './ops/top-k.ts';
export type { TopKGradients, TopKSaved, TopKValue } from './ops/top-k.ts';
export type { Activation } from './ops/activation.ts';
export { attention, attentionBackward, attentionForward } from './ops/attention.ts';
export type {
  AttentionGradients,
  AttentionOptions,
  AttentionSaved,
  AttentionSizes,
} from './ops/attention.ts';
export { cachedAttention } from './ops/cached-attention.ts';
export type { CachedAttentionOptions } from './ops/cached-attention.ts';
export {
  expertFeedForward,
  expertFeedForwardBackward,
  expertFeedForwardForward,
} from './ops/expert-feed-forward.ts';
export type {
  ExpertFeedForwardGradients,
  ExpertFeedForwardOptions,
  ExpertFeedForwardSaved,
} from './ops/expert-feed-forward.ts';
export { feedForward, feedForwardBackward, feedForwardForward } from './ops/feed-forward.ts';
export type { FeedForwardGradients, FeedForwardSaved, PlainWeights } from './ops/feed-forward.ts';
export { fromTfjs } from './ops/from-tfjs.ts';
export type { TfjsPair, TfjsSaved } from './ops/from-tfjs.ts';
export {
  gatedFeedForward,
  gatedFeedForwardBackward,
  gatedFeedForwardForward,
} from './ops/gated-feed-forward.ts';
export type {
  FeedForwardOptions,
  GatedFeedForwardGradients,
  GatedFeedForwardSaved,
  GatedWeights,
} from './ops/gated-feed-forward.ts';
export { globalNorm } from './ops/global-norm.ts';
export type { GlobalNorm } from './ops/global-norm.ts';
export { groupedMatmul, groupedMatmulBackward, groupedMatmulForward } from './ops/grouped-matmul.ts';
export type { GroupedMatmulGradients, GroupedMatmulSaved } from './ops/grouped-matmul.ts';
export { headNormRope, headNormRopeBackward, headNormRopeForward } from './ops/head-norm-rope.ts';
export type { HeadNormRopeGradients, HeadNormRopeOptions, HeadNormRopeSaved } from './ops/head-norm-rope.ts';
export { rotaryTable } from './ops/rotary.ts';
export type { RotaryTable, RotaryTableOptions } from './ops/rotary.ts';
export { createKvCache } from './cache/kv-cache.ts';
export type { KvCache, KvCacheOptions, KvView } from './cache/kv-cache.ts';
export type { AdamWSettings, ParameterId, WeightDecayRule } from './parameters/adamw-settings.ts';
export { createParameterStore } from './parameters/parameter-store.ts';
export type {
  CaptureOptions,
  Gradients,
  ParameterInit,
  ParameterStore,
  UnitId,
  UpdateOptions,
  UpdateReport,
} from './parameters/parameter-store.ts';
export type { Moments } from './parameters/parameter-slot.ts';
export { exportParameters, importParameters } from './parameters/parameter-state.ts';
export type { Snapshot, SnapshotUnit } from './parameters/snapshot.ts';
export { linearsBackward, linearsForward } from './ops/linears.ts';
export type { LinearsGradients, LinearsSaved } from './ops/linears.ts';
export { cachedAttentionBlock } from './ops/cached-attention-block.ts';
export type { AttentionBlockOptions, AttentionBlockWeights } from './ops/cached-attention-block.ts';
export { normLinears } from './ops/norm-linears.ts';
export { routedBlock } from './ops/routed-block.ts';
export type { RoutedBlockOptions, RoutedBlockValue, RoutedBlockWeights } from './ops/routed-block.ts';
export { profileOperations } from './native/profile-operations.ts';
export type { OperationCost } from './native/profile-operations.ts';
