import { describeEngine } from '../../src/testing/index.ts';
import { operationsSuite } from './operations-suite.ts';

describeEngine('cpu', operationsSuite);
