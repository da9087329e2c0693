import { describeEngine } from '../../src/testing/index.ts';
import { definitionsSuite } from './definitions-suite.ts';
import { optimizersSuite } from './optimizers-suite.ts';
import { parametersSuite } from './parameters-suite.ts';
import { variablesSuite } from './variables-suite.ts';

describeEngine('wasm', (context) => {
  parametersSuite(context);
  optimizersSuite();
  definitionsSuite();
  variablesSuite();
});
