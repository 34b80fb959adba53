/** The kernel's tables of services, together. @module */
import type { BackendTable } from "./backend_table.ts";
import type { FrontendTable } from "./frontend_table.ts";
import type { SelectionTable } from "./selection_table.ts";
import type { SourceRangeTable } from "./source_range_table.ts";

/** The tables of the kernel. */
export interface ServiceTables {
  frontends: FrontendTable;
  backends: BackendTable;
  selections: SelectionTable;
  ranges: SourceRangeTable;
}
