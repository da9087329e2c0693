/** @file The recipes by name: where the command line's string becomes code. */
import { createRegistry } from '@moebius/core';
import type { Registry } from '@moebius/core';

import { demo } from './demo.ts';
import type { Recipe } from './recipe.ts';
import { reference } from './reference.ts';
import { smoke } from './smoke.ts';
import { study } from './study.ts';

/** All recipes; the first one is the default. */
export const recipes: Registry<readonly Recipe[]> = createRegistry<readonly Recipe[]>([
  demo,
  smoke,
  reference,
  study,
]);

/** One line per recipe, for help. */
export const recipeHelp: string = recipes.plugins
  .map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`)
  .join('\n');
