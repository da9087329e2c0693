/**
 * @file `moebius/no-tensor-map`: no `Map` or `Set` of tensors. `tidy` does not see into them and frees tensors that
 * are still held; `disposeTree` and `countTensors` do not see them either. Trees are plain objects and arrays.
 */

const containers = new Set(['Map', 'Set', 'ReadonlyMap', 'ReadonlySet']);
const tensorType = /\b(?:Tensor(?:[1-6]D)?|Scalar|Variable)\b/;

/** @type {import('../rule-types.d.ts').Rule} */
export const noTensorMap = {
  meta: { type: 'problem', docs: { description: 'tensors live in plain objects and arrays' } },
  create(context) {
    /**
     * @param {import('../rule-types.d.ts').Node} node
     * @param {string | undefined} name
     */
    function check(node, name) {
      const parameters = node['typeArguments'] ?? node['typeParameters'];
      if (name === undefined || !containers.has(name) || !parameters) return;
      if (!tensorType.test(context.sourceCode.getText(parameters))) return;
      context.report({
        node,
        message: `${name}: tensors live in plain objects and arrays, got a ${name} of tensors (tidy frees what it holds: use a record)`,
      });
    }
    return {
      TSTypeReference: (node) => check(node, node['typeName']?.name),
      NewExpression: (node) => check(node, node['callee']?.name),
    };
  },
};
