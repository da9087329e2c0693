// Experimental: names and settings may change in any release.
export { mixBranches } from './branch-train-mix.ts';
export type { Branch, MixedBranches } from './branch-train-mix.ts';
export { moaBackward, moaForward } from './attention-experts.ts';
export type { AttentionExpert, MoaGradients, MoaInput, MoaOptions } from './attention-experts.ts';
export type { MoaParameters, MoaSaved } from './attention-experts.ts';
export { dselectEntropyBackward, dselectEntropyForward, dselectK, dselectKRouter } from './dselect-k.ts';
export type { DselectEntropySaved, DselectKOptions } from './dselect-k.ts';
export { peerBackward, peerForward } from './product-keys.ts';
export type { PeerGradients, PeerOptions, PeerParameters, PeerSaved } from './product-keys.ts';
export { productTopK } from './product-keys.kernel.ts';
export { sparseMixer, sparseMixerRouter } from './sparse-mixer.ts';
export type { SparseMixerOptions } from './sparse-mixer.ts';
export { distilRouteBackward, distilRouteForward, stableMoe, stableMoeRouter } from './stable-moe.ts';
export type { DistilRouteSaved, LightRouter, StableMoeOptions } from './stable-moe.ts';
export { consistencyBackward, consistencyForward, thor, thorRouter } from './thor.ts';
export type { ConsistencySaved, ThorOptions } from './thor.ts';
