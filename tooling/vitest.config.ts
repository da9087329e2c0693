import { defineProject, mergeConfig } from 'vitest/config';

import { testProject } from './vitest/test-project.ts';

export default mergeConfig(
  testProject,
  defineProject({ test: { name: 'tooling', include: ['**/*.test.ts'] } }),
);
