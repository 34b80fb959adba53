/**
 * `weir observe --print-raw-filters`: what the flags mean, as Hubble's FlowFilters; its output goes into `--allowlist` and
 * `--denylist`, or into the configuration of the `hubble` command.
 *
 * @module
 */
import { FlowFilter } from "@weir/proto/flow";

/** The filters of a query in YAML. @throws {ProblemError} QUERY_INVALID */
export async function rawFiltersText(query: Readonly<Record<string, readonly string[]>>): Promise<string> {
  const { readFlowsQuery } = await import("@weir/flow-filter");
  const parameters = new URLSearchParams(
    Object.entries(query).flatMap(([name, values]) => values.map((value) => [name, value])),
  );
  const { whitelist = [], blacklist = [] } = readFlowsQuery(parameters, Date.now());
  const list = (name: string, filters: typeof whitelist) =>
    filters.length === 0
      ? ""
      : `${name}:\n${
        filters.map((filter) =>
          `    - '${JSON.stringify(FlowFilter.toJson(filter)).replaceAll("'", "''")}'\n`
        ).join("")
      }`;
  return list("allowlist", whitelist) + list("denylist", blacklist) || "{}\n";
}
