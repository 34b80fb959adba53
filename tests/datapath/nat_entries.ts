/** What weir_nat holds. @module */
import * as abi from "@weir/maps";
import type { TestNode } from "./node.ts";

export function natEntries(node: TestNode): { key: abi.NatKey; entry: abi.NatEntry }[] {
  return node.map("weir_nat").entries().map(([key, value]) => ({
    key: abi.NatKey.decode(key),
    entry: abi.NatEntry.decode(value),
  }));
}
