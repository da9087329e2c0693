// Experimental: names and settings may change in any release.
export { mixBranches } from './branch-train-mix.ts';
export type { Branch, MixedBranches } from './branch-train-mix.ts';
