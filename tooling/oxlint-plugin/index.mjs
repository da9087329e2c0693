/**
 * @file The house rules that no ready-made rule covers, as an oxlint plugin. One rule per file in `rules/`;
 * `.oxlintrc.json` says where each is on. `plugin.test.ts` proves of each that it fires and that it does not.
 */
import { noAmbient } from './rules/no-ambient.mjs';
import { noAsyncTidy } from './rules/no-async-tidy.mjs';
import { noTensorMap } from './rules/no-tensor-map.mjs';
import { noTfjsImport } from './rules/no-tfjs-import.mjs';
import { shapeDoc } from './rules/shape-doc.mjs';

/** @type {import('./rule-types.d.ts').Plugin} */
const plugin = {
  meta: { name: 'moebius' },
  rules: {
    'no-ambient': noAmbient,
    'no-async-tidy': noAsyncTidy,
    'no-tensor-map': noTensorMap,
    'no-tfjs-import': noTfjsImport,
    'shape-doc': shapeDoc,
  },
};

export default plugin;
