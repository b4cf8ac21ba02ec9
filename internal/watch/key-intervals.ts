/**
 * Intervals of keys, found by what they have in common with another: a search tree by where they start, in which each node knows
 * the highest end below it. Balanced by chance (a treap), so that every order of additions gives about the same tree, and a search costs
 * the logarithm of all plus what it finds.
 *
 * Keys are strings of one character a byte, so that their order is that of the bytes.
 */

/** From `start` on, up to `end` without it; absent: to the last key. */
export interface KeyInterval {
  readonly start: string;
  readonly end?: string;
}

interface Node<Value> {
  readonly start: string;
  readonly end: string | undefined;
  readonly value: Value;
  readonly weight: number;
  readonly order: number;
  /** The highest end in this subtree; undefined: one has none. */
  highest: string | undefined;
  left: Node<Value> | undefined;
  right: Node<Value> | undefined;
}

export class KeyIntervals<Value> {
  readonly #nodes = new Map<Value, Node<Value>>();
  #root: Node<Value> | undefined;
  #added = 0;

  get size(): number {
    return this.#nodes.size;
  }

  /** Adds a value that is not there yet. */
  add(value: Value, { start, end }: KeyInterval): void {
    const order = this.#added++;
    const node = {
      start,
      end,
      value,
      weight: scrambled(order),
      order,
      highest: end,
      left: undefined,
      right: undefined,
    };
    this.#nodes.set(value, node);
    const [left, right] = split(this.#root, node);
    this.#root = join(join(left, node), right);
  }

  delete(value: Value): void {
    const node = this.#nodes.get(value);
    if (!node) return;
    this.#nodes.delete(value);
    this.#root = without(this.#root, node);
  }

  /** Calls `found` for each interval that has a key in common with one from `start` on, up to `end`, with or without it. */
  overlapping(start: string, end: string | undefined, withEnd: boolean, found: (value: Value) => void): void {
    const visit = (node: Node<Value> | undefined): void => {
      if (!node || (node.highest !== undefined && node.highest <= start)) return;
      visit(node.left);
      if (end !== undefined && (node.start > end || (node.start === end && !withEnd))) return;
      if (node.end === undefined || node.end > start) found(node.value);
      visit(node.right);
    };
    visit(this.#root);
  }
}

function isBefore<Value>(a: Node<Value>, b: Node<Value>): boolean {
  return a.start < b.start || (a.start === b.start && a.order < b.order);
}

function noted<Value>(node: Node<Value>): Node<Value> {
  node.highest = higher(node.end, higher(node.left ? node.left.highest : "", node.right ? node.right.highest : ""));
  return node;
}

function higher(a: string | undefined, b: string | undefined): string | undefined {
  if (a === undefined || b === undefined) return undefined;
  return a > b ? a : b;
}

/** What comes before a node, and what after it. */
function split<Value>(
  tree: Node<Value> | undefined,
  at: Node<Value>,
): [Node<Value> | undefined, Node<Value> | undefined] {
  if (!tree) return [undefined, undefined];
  if (isBefore(tree, at)) {
    const [left, right] = split(tree.right, at);
    tree.right = left;
    return [noted(tree), right];
  }
  const [left, right] = split(tree.left, at);
  tree.left = right;
  return [left, noted(tree)];
}

/** All of `left` comes before all of `right`. */
function join<Value>(left: Node<Value> | undefined, right: Node<Value> | undefined): Node<Value> | undefined {
  if (!left || !right) return left ?? right;
  if (left.weight < right.weight) {
    left.right = join(left.right, right);
    return noted(left);
  }
  right.left = join(left, right.left);
  return noted(right);
}

function without<Value>(tree: Node<Value> | undefined, node: Node<Value>): Node<Value> | undefined {
  if (!tree) return undefined;
  if (tree === node) return join(tree.left, tree.right);
  if (isBefore(node, tree)) tree.left = without(tree.left, node);
  else tree.right = without(tree.right, node);
  return noted(tree);
}

/** Numbers that look like chance, and are the same every time. Each comes once. */
function scrambled(order: number): number {
  let mixed = (order + 0x9e3779b9) | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}
