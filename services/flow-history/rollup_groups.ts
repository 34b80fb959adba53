/**
 * Rows added up by group. A group is found by numbers, not by a text that is made for each row: each dimension numbers what its values are
 * made of, and each pair of a group so far and a value is one number again.
 *
 *     row ─▶ [3, 17, 2] ─▶ (3, 17) = 40 ─▶ (40, 2) = 112 ─▶ group 112
 *
 * @module
 */
import { ProblemError } from "@weir/common";
import { Rollup, type StoredRollup } from "@weir/proto/history";
import type { Dimension } from "./rollup_dimension.ts";
import { addCounts } from "./rollup_table.ts";

/** Groups that are added up; beyond it the request is refused. */
export const GROUPS_MAX = 50_000;
/** Numbers of one dimension: two of them are one exact number. */
const NUMBERS_MAX = 2 ** 26;

/** One dimension at work. */
interface Column {
  readonly dimension: Dimension;
  /** What a value is made of -> its number. */
  readonly numbers: Map<string | number, number>;
  /** Value -> its number, and back. */
  readonly byValue: Map<string, number>;
  readonly values: string[];
  /** Group so far and value -> group. */
  readonly pairs: Map<number, number>;
}

/** Groups of one answer. */
export class RollupGroups {
  readonly #columns: Column[];
  /** By the start of the step. */
  readonly #steps = new Map<number, Map<number, Rollup>>();
  #count = 0;

  constructor(dimensions: readonly Dimension[]) {
    this.#columns = dimensions.map((dimension) => ({
      dimension,
      numbers: new Map(),
      byValue: new Map(),
      values: [],
      pairs: new Map(),
    }));
  }

  /** Adds a row. @throws {ProblemError} QUERY_TOO_WIDE */
  add(row: StoredRollup, stepS: number): void {
    let number = 0;
    for (const column of this.#columns) {
      const key = number * NUMBERS_MAX + numberOf(column, row);
      let next = column.pairs.get(key);
      if (next === undefined) column.pairs.set(key, next = column.pairs.size);
      number = next;
    }
    let groups = this.#steps.get(stepS);
    if (groups === undefined) this.#steps.set(stepS, groups = new Map());
    let group = groups.get(number);
    if (group === undefined) groups.set(number, group = this.#begin(row, stepS));
    addCounts(group, row);
  }

  list(): Rollup[] {
    return [...this.#steps.values()].flatMap((groups) => [...groups.values()]);
  }

  #begin(row: StoredRollup, stepS: number): Rollup {
    if (this.#count++ >= GROUPS_MAX) throw tooWide();
    return Rollup.create({
      keys: Object.fromEntries(
        this.#columns.map((column) => [column.dimension.key, column.values[numberOf(column, row)]]),
      ),
      startUnixS: stepS,
      firstUnixS: row.firstUnixS,
      lastUnixS: row.lastUnixS,
    });
  }
}

function numberOf({ dimension, numbers, byValue, values }: Column, row: StoredRollup): number {
  const source = dimension.sourceOf(row);
  let number = numbers.get(source);
  if (number === undefined) {
    const value = dimension.valueOf(row);
    number = byValue.get(value);
    if (number === undefined) {
      byValue.set(value, number = values.length);
      values.push(value);
    }
    numbers.set(source, number);
  }
  return number;
}

function tooWide(): ProblemError {
  return new ProblemError("QUERY_TOO_WIDE", {
    status: 422,
    detail: `Cannot add up: there are more than ${GROUPS_MAX} groups`,
    expected: `at most ${GROUPS_MAX} groups`,
    action: "Group by less, take longer steps, or filter",
  });
}
