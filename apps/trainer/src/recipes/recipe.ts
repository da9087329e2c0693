/** @file A recipe: a name and a function that returns the whole configuration of a run. */
import { definePlugin } from '@moebius/core';
import type { Plugin } from '@moebius/core';
import type { EngineName } from '@moebius/tensor';
import type { TrainConfigInput } from '@moebius/train';

/** What a recipe may depend on: the machine, never the flags. */
export interface RecipeContext {
  /** The engine the run will have. */
  readonly engine: EngineName;
}

/** A run that somebody thought through. */
export interface Recipe extends Plugin {
  readonly kind: 'recipe';
  readonly name: string;
  /** One line: what it trains on what, and how long it takes. */
  readonly summary: string;
  /** What the sample at the end continues. */
  readonly prompt: string;
  /** The configuration; flags and `--set` are applied afterwards. */
  config(context: RecipeContext): TrainConfigInput;
}

/** Defines a recipe. */
export function defineRecipe(recipe: Omit<Recipe, 'kind'>): Recipe {
  return definePlugin({ ...recipe, kind: 'recipe' as const });
}

/** Sizes of a model, by their letters. */
export interface ModelSizes {
  /** L. */
  readonly layers: number;
  /** D. */
  readonly width: number;
  /** E. */
  readonly experts: number;
  /** K. */
  readonly topK: number;
  /** F. */
  readonly expertWidth: number;
  /** H. */
  readonly heads: number;
  /** J. */
  readonly kvHeads: number;
}

/** The config.json of a `qwen3_moe` model with tied embeddings; the tokenizer adds the vocabulary. */
export function smallModel(sizes: ModelSizes): { readonly [key: string]: unknown } {
  return {
    model_type: 'qwen3_moe',
    hidden_size: sizes.width,
    num_hidden_layers: sizes.layers,
    num_attention_heads: sizes.heads,
    num_key_value_heads: sizes.kvHeads,
    head_dim: sizes.width / sizes.heads,
    num_experts: sizes.experts,
    num_experts_per_tok: sizes.topK,
    moe_intermediate_size: sizes.expertWidth,
    norm_topk_prob: true,
    tie_word_embeddings: true,
    max_position_embeddings: 2048,
  };
}
