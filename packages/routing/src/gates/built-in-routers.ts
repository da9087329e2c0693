/**
 * @file The routers that a configuration may name without a plug-in.
 */
import { adaptiveThresholdRouter } from './adaptive-threshold.ts';
import { attentionRouter } from './attention.ts';
import { cosineRouter } from './cosine.ts';
import { denseToSparseRouter } from './dense-to-sparse.ts';
import { hierarchicalRouter } from './hierarchical.ts';
import { lossFreeRouter } from './loss-free.ts';
import { noisyTopKRouter } from './noisy-top-k.ts';
import { normalisedLogitsRouter } from './normalised-logits.ts';
import { nullExpertsRouter } from './null-experts.ts';
import { prototypesRouter } from './prototypes.ts';
import { reluRouter } from './relu.ts';
import { baseRouter } from './base.ts';
import { domainRouter } from './domain.ts';
import { expertChoiceRouter } from './expert-choice.ts';
import { frozenRandomRouter } from './frozen-random.ts';
import { hashRouter } from './hash.ts';
import { loryRouter } from './lory.ts';
import { meoRouter } from './meo.ts';
import { mixtureOfDepthsRouter } from './mixture-of-depths.ts';
import { multiGateRouter } from './multi-gate.ts';
import { randomRouter } from './random.ts';
import { sentenceRouter } from './sentence.ts';
import { sinkhornRouter } from './sinkhorn.ts';
import { smearRouter } from './smear.ts';
import { softMoeRouter } from './soft-moe.ts';
import type { RouterFactory } from '../router-factory.ts';
import { scheduledTopKRouter } from './scheduled-top-k.ts';
import { switchRouter } from './switch.ts';
import { topKFactory } from './top-k.ts';
import { topPRouter } from './top-p.ts';
import { topTwoRouter } from './top-2.ts';

/** Factories of all stable families, each with a name of its own. */
export function builtInRouters(): readonly RouterFactory[] {
  return [
    topKFactory(),
    noisyTopKRouter(),
    switchRouter(),
    topTwoRouter(),
    topPRouter(),
    scheduledTopKRouter(),
    denseToSparseRouter(),
    cosineRouter(),
    normalisedLogitsRouter(),
    attentionRouter(),
    lossFreeRouter(),
    hierarchicalRouter(),
    prototypesRouter(),
    reluRouter(),
    adaptiveThresholdRouter(),
    nullExpertsRouter(),
    baseRouter(),
    sinkhornRouter(),
    expertChoiceRouter(),
    mixtureOfDepthsRouter(),
    hashRouter(),
    randomRouter(),
    frozenRandomRouter(),
    domainRouter(),
    sentenceRouter(),
    multiGateRouter(),
    softMoeRouter(),
    smearRouter(),
    meoRouter(),
    loryRouter(),
  ];
}
