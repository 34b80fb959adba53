/**
 * The filter that is in the address, as the server takes it.
 * @module
 */
import { useMemo } from "react";
import { filterParameters, type FilterTerm, readFilter } from "../model/filter_language.ts";
import { useNames } from "./session.ts";
import { useUrlState } from "./url_store.ts";

/** Pairs of the server's parameters: the same ones as long as the filter is the same. */
export type Parameters = readonly (readonly [string, string])[];

/** A filter that is wrong filters by what stands before the fault; its line says so. */
export function useFilter(): { readonly terms: readonly FilterTerm[]; readonly parameters: Parameters } {
  const { filter } = useUrlState(), names = useNames();
  const { terms } = useMemo(() => readFilter(filter, names.parameters), [filter, names.parameters]);
  const parameters = filterParameters(terms), text = JSON.stringify(parameters);
  return useMemo(() => ({ terms, parameters }), [text]);
}

/** Parameters of what is shown: the filter, and the window where one is chosen. */
export function useShownParameters(): Parameters {
  const { window } = useUrlState(), { parameters } = useFilter();
  return useMemo(
    () =>
      window
        ? [...parameters, ["since", String(window.sinceUnixS)], ["until", String(window.untilUnixS)]]
        : parameters,
    [window, parameters],
  );
}
