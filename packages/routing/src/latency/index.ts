export { expertSeconds, parseExpertTimes } from './expert-times.ts';
export type { ExpertTimes } from './expert-times.ts';
export { createLatencyModel } from './latency-model.ts';
export type { DeviceTime, LatencyModel, LatencyOptions, LayerTime } from './latency-model.ts';
export { measureExpertTimes } from './measure-expert-times.ts';
export type { MeasureExpertOptions } from './measure-expert-times.ts';
