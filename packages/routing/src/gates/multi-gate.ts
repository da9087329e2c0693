/**
 * @file One gate for each task over one bank of experts: MMoE (Ma et al. 2018), task-level MoE, and PLE (Tang et al. 2020), where a task sees
 * the shared experts and its own.
 *
 * `z_t = x_t W_{task(t)}ᵀ`, softmax over the experts that the task sees, the `K` best of them, their scores as weights. With one task and every
 * expert chosen it is a dense MoE.
 *
 * Letters: `T` tokens, `D` model width, `E` experts, `A` tasks, `K` top-k.
 */
import { parseConfig, z } from '@moebius/core';
import {
  add,
  linearBackward,
  linearForward,
  mul,
  reshape,
  runOp,
  sum,
  tensor2d,
  tile,
} from '@moebius/tensor';
import type { LinearSaved, Tensor2D } from '@moebius/tensor';

import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { composeRouter } from './compose-router.ts';
import { givenDomains } from './given-context.ts';
import { bestSeen } from './seen-experts.kernel.ts';
import type { Scorer } from './stages.ts';
import { weighScores } from './weighs.ts';

interface MultiGateSettings {
  readonly tasks: number;
  readonly topK: number;
  readonly sees: readonly (readonly number[])[] | null;
  readonly renormalise: boolean;
  readonly otherwise: number | null;
}

/**
 * Gates of several tasks by name, `multi-gate`. Options: `tasks` (default 1), `topK` (default: all experts, as MMoE), `sees`, the list of experts
 * of each task (default: all, for all), `renormalise` the weights of the chosen (default false), `otherwise` the task of a batch that was given
 * none (default: refuse it, with more tasks than one). Trained: `weight` `[A·E, D]`. A batch says the task of each token in `options.domain`.
 */
export function multiGateRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'multi-gate',
    create: ({ experts }, options) => {
      const settings = parseConfig(multiGateSchema(experts), options, 'options');
      const { topK, renormalise, sees } = settings;
      const seen = sees ?? Array.from({ length: settings.tasks }, () => everyExpert(experts));
      const taskOf = (tokens: number, context: Parameters<typeof givenDomains>[0]): Int32Array =>
        givenDomains(context, {
          router: 'multi-gate',
          tokens,
          domains: settings.tasks,
          otherwise: settings.tasks === 1 ? 0 : settings.otherwise,
        });
      const counts = seen.map(({ length }) => Math.min(topK, length));
      return composeRouter({
        name: 'multi-gate',
        experts,
        topK: counts.reduce((total, count) => total + count, 0) / counts.length,
        trusted: true,
        scorer: taskScorer({ experts, seen, taskOf }),
        score: 'softmax',
        choose: (input) => bestSeen(input, { seen, task: taskOf(input.tokens, input.options), topK }),
        weigh: weighScores({ renormalise }),
      });
    },
  });
}

function everyExpert(experts: number): number[] {
  return Array.from({ length: experts }, (_, e) => e);
}

function multiGateSchema(experts: number): z.ZodType<MultiGateSettings> {
  const list = z
    .array(
      z
        .int()
        .min(0)
        .max(experts - 1),
    )
    .min(1)
    .refine((entries) => new Set(entries).size === entries.length, 'must name each expert once');
  return z
    .strictObject({
      tasks: z.int().min(1).default(1),
      topK: z.int().min(1).max(experts).default(experts),
      sees: z.array(list).nullable().default(null),
      renormalise: z.boolean().default(false),
      otherwise: z.int().min(0).nullable().default(null),
    })
    .superRefine(({ tasks, sees, otherwise }, context) => {
      const add = (path: string, message: string, remedy: string): void =>
        context.addIssue({ code: 'custom', path: [path], message, params: { remedy } });
      if (sees !== null && sees.length !== tasks)
        add(
          'sees',
          `must have a list for each of ${tasks} tasks`,
          'list the shared and the own experts of each',
        );
      if (otherwise !== null && otherwise >= tasks)
        add('otherwise', `must be one of the ${tasks} tasks`, 'tasks are counted from 0');
    });
}

interface TaskGate {
  readonly experts: number;
  readonly seen: readonly (readonly number[])[];
  readonly taskOf: (tokens: number, options: Parameters<Scorer['forward']>[2]) => Int32Array;
}

interface TaskSaved {
  readonly linear: LinearSaved;
  /** float32 `[T, A·E]`, 1 in the columns of a token's task that it sees. */
  readonly own: Tensor2D;
}

/** The logit of an expert that a task does not see: exp of it is 0 beside any other, and its square is finite. */
const UNSEEN = -1e9;

/** All gates for all tokens, of which each token keeps its task's: `A` times the products of one gate, and no gather. */
function taskScorer({ experts, seen, taskOf }: TaskGate): Scorer {
  const tasks = seen.length;
  return {
    parameterShapes: (modelWidth) => ({ weight: [tasks * experts, modelWidth] }),
    forward: (x, { weight }, options) =>
      runOp('taskScorer', () => {
        const tokens = x.shape[0];
        const task = taskOf(tokens, options);
        const { value, saved } = linearForward(x, weight as Tensor2D);
        const own = ownColumns(task, seen, experts);
        const kept = reshape(mul(value, own), [tokens, tasks, experts]);
        const unseen = Float32Array.from({ length: tokens * experts }, (_, i) =>
          seen[task[Math.floor(i / experts)] ?? 0]?.includes(i % experts) === false ? UNSEEN : 0,
        );
        const logits = add<Tensor2D>(sum(kept, 1), tensor2d(unseen, [tokens, experts]));
        return { value: logits, saved: { linear: saved, own } satisfies TaskSaved };
      }),
    backward: (saved, dlogits) =>
      runOp('taskScorer.backward', () => {
        const { linear, own } = saved as TaskSaved;
        const { dx, dweight } = linearBackward(linear, mul<Tensor2D>(tile(dlogits, [1, tasks]), own));
        return { dx, parameters: { weight: dweight } };
      }),
  };
}

/** 1 in the columns of a token's task that the task sees. */
function ownColumns(task: Int32Array, seen: TaskGate['seen'], experts: number): Tensor2D {
  const width = seen.length * experts;
  const values = new Float32Array(task.length * width);
  for (const [t, a] of task.entries()) for (const e of seen[a] ?? []) values[t * width + a * experts + e] = 1;
  return tensor2d(values, [task.length, width]);
}
