import { defineProject, mergeConfig } from 'vitest/config';

import { testProject } from '../../tooling/vitest/test-project.ts';

export default mergeConfig(
  testProject,
  defineProject({ test: { name: 'tensor', globalSetup: ['./test/engine/global-setup.ts'] } }),
);
