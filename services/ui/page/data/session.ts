/**
 * What the server says of itself, and words for completion.
 * @module
 */
import { createContext, useContext } from "react";
import type { Names, Session } from "../../api.ts";

export const NAMES_EMPTY: Names = {
  namespaces: [],
  pods: [],
  workloads: [],
  labels: [],
  nodes: [],
  verdicts: [],
  dropReasons: [],
  types: [],
  protocols: [],
  parameters: [],
};

export const SessionContext = createContext<Session | undefined>(undefined);
export const NamesContext = createContext<Names>(NAMES_EMPTY);

/** undefined until the server has answered. */
export const useSession = (): Session | undefined => useContext(SessionContext);
export const useNames = (): Names => useContext(NamesContext);
