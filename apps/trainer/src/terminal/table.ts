/** @file Small tables for the terminal: the first column to the left, numbers to the right. */

/**
 * Lines of a table.
 *
 * @param rows - cells, the first row is the heading
 * @param options - `indent`: spaces before each line (default 2)
 */
export function formatTable(
  rows: readonly (readonly string[])[],
  options: { readonly indent?: number } = {},
): string[] {
  const { indent = 2 } = options;
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(0, ...rows.map((row) => (row[column] ?? '').length)),
  );
  return rows.map((row) => {
    const cells = widths.map((width, column) => {
      const cell = row[column] ?? '';
      return column === 0 ? cell.padEnd(width) : cell.padStart(width);
    });
    return (' '.repeat(indent) + cells.join('  ')).trimEnd();
  });
}
