import { describeEngine } from '../../src/testing/index.ts';
import { parametersSuite } from './parameters-suite.ts';

describeEngine('native', parametersSuite);
