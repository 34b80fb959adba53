/**
 * The two commands that show what the page shows, to copy.
 * @module
 */
import { useSession } from "../data/session.ts";
import { useUrlState } from "../data/url_store.ts";
import { observeCommand } from "../model/commands.ts";
import type { FilterTerm } from "../model/filter_language.ts";
import { CommandLine } from "./command_line.tsx";
import { Block } from "./panel.tsx";

export function ObserveCommands({ terms, title = "The same in a terminal" }: {
  terms: readonly FilterTerm[];
  title?: string;
}) {
  const { window } = useUrlState();
  const lab = useSession()?.lab ?? "";
  const weir = observeCommand("weir", terms, { window, lab }),
    hubble = observeCommand("hubble", terms, { window });
  return (
    <Block title={title}>
      {weir && <CommandLine text={weir} label="Copy weir command" />}
      {hubble && <CommandLine text={hubble} label="Copy hubble command" />}
    </Block>
  );
}
