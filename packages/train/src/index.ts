export { corpora, corpusNames } from './data/corpora.ts';
export type { Corpus, CorpusName } from './data/corpora.ts';
export { readDocuments } from './data/documents.ts';
export type { DocumentOptions, TextDocument } from './data/documents.ts';
export { readTextSource } from './data/text-source.ts';
export type { TextSource, TextSourceOptions } from './data/text-source.ts';
export { splitDocuments } from './data/split.ts';
export type { DocumentSplit, SplitOptions } from './data/split.ts';
export { packDocuments } from './data/token-shard.ts';
export type { TokenShard } from './data/token-shard.ts';
export { createBatchSampler } from './data/batch-sampler.ts';
export type { BatchSampler, BatchSamplerOptions, TokenRows } from './data/batch-sampler.ts';
export { endOfText, trainTokenizer } from './tokenizer/train-tokenizer.ts';
export type { TokenizerTrainingOptions } from './tokenizer/train-tokenizer.ts';
export { createTokenizer } from './tokenizer/tokenizer.ts';
export type { DecodeOptions, Tokenizer, TokenizerOptions } from './tokenizer/tokenizer.ts';
export { readTokenizer, tokenizerFiles, writeTokenizer } from './tokenizer/tokenizer-folder.ts';
export { describeTokenizer } from './tokenizer/describe-tokenizer.ts';
export type { NamedToken, TokenizedText, TokenizerCard } from './tokenizer/describe-tokenizer.ts';
export { createTextStream } from './tokenizer/text-stream.ts';
export type { TextStream } from './tokenizer/text-stream.ts';
export { evaluate } from './evaluation/evaluate.ts';
export type { EvaluateOptions, EvaluationResult } from './evaluation/evaluate.ts';
export { evaluateDocuments } from './evaluation/evaluate-documents.ts';
export type {
  DocumentResult,
  DocumentsResult,
  EvaluateDocumentsOptions,
} from './evaluation/evaluate-documents.ts';
export {
  differenceInLoss,
  resampleBitsPerByte,
  standardErrorOf,
  standardErrorOfDifference,
} from './evaluation/bootstrap.ts';
export type {
  BootstrapOptions,
  DifferenceInterval,
  DocumentBits,
  DocumentLoss,
} from './evaluation/bootstrap.ts';
export { capacityGrid, capacityGridKeys, capacityGridMethods } from './evaluation/capacity-grid.ts';
export type { CapacityGridMethod, CapacityGridOptions } from './evaluation/capacity-grid.ts';
export type { CapacityLayerReport } from './evaluation/capacity-sums.ts';
export { evaluateCapacity } from './evaluation/evaluate-capacity.ts';
export type {
  CapacityEvaluation,
  CapacityMeasurement,
  CapacitySetting,
  EvaluateCapacityOptions,
} from './evaluation/evaluate-capacity.ts';
export { measureRouting } from './evaluation/measure-routing.ts';
export type {
  LayerRoutingReport,
  MeasureRoutingOptions,
  RoutingReport,
} from './evaluation/measure-routing.ts';
export { traceRoutes } from './evaluation/trace-routes.ts';
export type { TraceRoutesOptions } from './evaluation/trace-routes.ts';
export { computeBaselines, countShard, kneserNeyBits } from './evaluation/baselines.ts';
export type { Baselines } from './evaluation/baselines.ts';
export { createBigramCounts } from './evaluation/bigram-counts.ts';
export type { BigramCounts } from './evaluation/bigram-counts.ts';
export { fitKneserNey } from './evaluation/kneser-ney.ts';
export type { BigramModel } from './evaluation/kneser-ney.ts';
export { findMissingFiles } from './trainer/config-files.ts';
export { editRunExperts, modelOfRun } from './trainer/edit-run.ts';
export type { EditedRun, EditRunOptions, RunModel } from './trainer/edit-run.ts';
export { parseTrainConfig, resolveModelConfig } from './trainer/train-config.ts';
export type {
  BatchConfig,
  DataConfig,
  EarlyStopConfig,
  EmaConfig,
  EvaluationConfig,
  LossesConfig,
  NumericsConfig,
  RouterConfig,
  OptimizerConfig,
  ReplayConfig,
  ScheduleConfig,
  TrainConfig,
  TrainConfigInput,
} from './trainer/train-config.ts';
export type { RunCapacityConfig } from './trainer/run-capacity.ts';
export { trainConfigDefinition } from './trainer/train-config-schema.ts';
export { trainConfigDescriptions } from './trainer/train-config-descriptions.ts';
export { scheduleFactor } from './trainer/schedule.ts';
export type { RunPosition } from './trainer/schedule.ts';
export { defineCallback } from './trainer/callback.ts';
export type { Callback, CallbackContext, CallbackHooks } from './trainer/callback.ts';
export type {
  EndEvent,
  EvaluateEvent,
  LayerLoad,
  PrepareEvent,
  SaveEvent,
  SaveFailedEvent,
  SkipEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
} from './trainer/events.ts';
export { checkpointFile } from './trainer/run-checkpoint.ts';
export { modelFolderName } from './trainer/save-run.ts';
export { lockRun, runLockName } from './trainer/run-lock.ts';
export type { LockRunOptions, RunLock } from './trainer/run-lock.ts';
export { createTrainer } from './trainer/trainer.ts';
export type { Trainer } from './trainer/trainer.ts';
export { defaultCacheFolder } from './trainer/session.ts';
export type { TrainerOptions } from './trainer/session.ts';
export { findMatmulRate } from './trainer/matmul-rate.ts';
export type { MatmulRateOptions } from './trainer/matmul-rate.ts';
export { createTensorBoardCallback } from './tensorboard/tensorboard-callback.ts';
export type { TensorBoardOptions } from './tensorboard/tensorboard-callback.ts';
export { prepareDataset, prepareDatasetInStages, prepareSplitInStages } from './data/dataset.ts';
export type { Dataset, DatasetOptions, DatasetStage } from './data/dataset.ts';
export { describeDataset } from './data/describe-dataset.ts';
export type {
  DatasetReport,
  DescribedDataset,
  DuplicateDocument,
  FaultyDocument,
  SharedDocument,
  SideReport,
  TokenCount,
} from './data/describe-dataset.ts';
export { countTextFaults } from './data/text-faults.ts';
export type { TextFaults } from './data/text-faults.ts';
export type { TarballDownload } from './data/npm-tarball.ts';
export type { TokenizerDefinition } from './tokenizer/tokenizer-definition.ts';
export { parseTokenizerDefinition } from './tokenizer/tokenizer-definition.ts';
export { generateText, generateTexts } from './generate-text.ts';
export type { GenerateTextOptions, TextPiece, TextSourceModel } from './generate-text.ts';
export { createStopFilter } from './stop-strings.ts';
export type { StopFilter } from './stop-strings.ts';
export { loadPlugins } from './plugins/load-plugins.ts';
export type { LoadPluginsOptions, LoadedPlugin } from './plugins/load-plugins.ts';
export { parseRunCurves } from './plot/run-curves.ts';
export type { CurvePoint, LayerCurves, RunCurves } from './plot/run-curves.ts';
export { drawRuns } from './plot/draw-runs.ts';
export type { DrawRunsOptions } from './plot/draw-runs.ts';
export { averageDecay } from './trainer/weight-copies.ts';
export { metricsFileName } from './trainer/metrics-file.ts';
