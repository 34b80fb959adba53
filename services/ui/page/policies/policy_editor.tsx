/**
 * A policy's text to be changed and tried on what was recorded, before anybody applies it. The page changes nothing itself.
 * @module
 */
import { useEffect, useRef, useState } from "react";
import type { PolicyPreview, PreviewChange } from "../../api.ts";
import { ApiError, apiUrl, askJson } from "../data/api_client.ts";
import { useNow } from "../data/clock.ts";
import { formatAge, formatCount } from "../model/number_format.ts";
import { CommandLine, CopyButton } from "../parts/command_line.tsx";
import { Breakable } from "../parts/prose.tsx";
import { Notice, Waiting } from "../parts/states.tsx";
import { Badge, type Tone } from "../parts/verdict.tsx";

const SPANS: readonly (readonly [number, string])[] = [[1, "the last hour"], [24, "the last day"], [
  168,
  "the last week",
]];
const EFFECTS: Readonly<Record<PreviewChange["effect"], readonly [Tone, string]>> = {
  closes: ["dropped", "would be dropped"],
  opens: ["allowed", "would pass"],
  judges: ["audited", "by request"],
};

/** What an answer is about: the text may have been changed since. */
interface Tried {
  readonly text: string;
  readonly preview?: PolicyPreview;
  readonly error?: ApiError;
}

export function PolicyEditor({ yaml, file, onClose }: { yaml: string; file: string; onClose: () => void }) {
  const [text, setText] = useState(yaml), [sinceH, setSinceH] = useState(24);
  const [tried, setTried] = useState<Tried>(), [asking, setAsking] = useState(false);
  const question = useRef<AbortController>(undefined);
  useEffect(() => () => question.current?.abort(), []);
  const ask = async () => {
    question.current?.abort();
    const own = question.current = new AbortController();
    setAsking(true);
    try {
      const preview = await askJson<PolicyPreview>(apiUrl("preview"), { text, file, sinceH }, own.signal);
      if (!own.signal.aborted) setTried({ text, preview });
    } catch (error) {
      if (own.signal.aborted) return;
      const known = error instanceof ApiError
        ? error
        : new ApiError({ status: 0, code: "PAGE", detail: String(error) });
      setTried({ text, error: known });
    }
    if (!own.signal.aborted) setAsking(false);
  };
  return (
    <section className="block" aria-label="Change it and see">
      <div className="block-head">
        <h2>Change it, and see what would come of it</h2>
        <button type="button" className="button small" onClick={onClose}>Close</button>
      </div>
      <textarea
        className="field policy-editor"
        aria-label="Text of the policy"
        spellCheck={false}
        rows={Math.min(32, text.split("\n").length + 1)}
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
      <div className="chips">
        <button type="button" className="button" disabled={asking} onClick={ask}>
          See what would change
        </button>
        <label className="soft">
          of{" "}
          <select
            className="field"
            value={sinceH}
            onChange={(event) => setSinceH(Number(event.target.value))}
          >
            {SPANS.map(([hours, words]) => <option key={hours} value={hours}>{words}</option>)}
          </select>
        </label>
        <CopyButton text={text} label="Copy the changed policy" />
      </div>
      <div aria-live="polite">
        {asking ? <Waiting lines={3} /> : tried && <Outcome tried={tried} isOld={tried.text !== text} />}
      </div>
      <p className="soft">This page changes nothing. To apply the text, save it and run</p>
      <CommandLine text="weir policy apply -f policy.yaml" />
    </section>
  );
}

function Outcome({ tried: { preview, error }, isOld }: { tried: Tried; isOld: boolean }) {
  if (error !== undefined) {
    return (
      <Notice tone="dropped">
        <p className="policy-fault">{error.message}</p>
        {error.action !== "" && <p>{error.action}</p>}
      </Notice>
    );
  }
  if (preview === undefined) return null;
  const { counts, changes, connections, isWhole, countedText, missingText, nodes } = preview;
  return (
    <div className={isOld ? "stale" : ""}>
      {isOld && <p className="soft">The text was changed since: ask again.</p>}
      {preview.tooLarge.map((why) => (
        <Notice key={why} tone="dropped">
          <p>It would be refused: {why}</p>
        </Notice>
      ))}
      <p className="number">
        Of {formatCount(connections)} recorded connections{isWhole ? "" : " (the newest; there are more)"}
        {" "}
        {formatCount(counts.closes)} would be dropped that pass now, {formatCount(counts.opens)}{" "}
        would pass that are dropped now{counts.judges > 0
          ? `, ${formatCount(counts.judges)} would pass request by request`
          : ""}; {formatCount(counts.staysOpen + counts.staysClosed)} stay as they are
        {counts.unjudged > 0 ? `; ${formatCount(counts.unjudged)} could not be judged` : ""}.
      </p>
      <p className="soft number">
        {countedText !== "" && `Made of ${countedText} of all flows`}
        {missingText !== "" && ` (${missingText})`}
        {nodes.length > 0 &&
          `; map entries ${
            nodes.slice(0, 3).map(({ node, entries, entriesBefore }) =>
              `${node} ${formatCount(entriesBefore)} → ${formatCount(entries)}`
            ).join(", ")
          }${nodes.length > 3 ? ` and ${nodes.length - 3} nodes more` : ""}`}
      </p>
      {preview.warnings.map((one) => (
        <Notice key={one} tone="audited">
          <p>{one}</p>
        </Notice>
      ))}
      {changes.length > 0 && <Changes changes={changes} more={preview.moreChanges} />}
    </div>
  );
}

function Changes({ changes, more }: { changes: readonly PreviewChange[]; more: number }) {
  const now = useNow();
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="What would change">
      <table className="changes">
        <thead>
          <tr>
            <th />
            <th>From</th>
            <th>To</th>
            <th>Port</th>
            <th className="right">Connections</th>
            <th>Last</th>
            <th>Because of</th>
          </tr>
        </thead>
        <tbody>
          {changes.map((change, at) => {
            const [tone, words] = EFFECTS[change.effect];
            return (
              <tr key={at}>
                <td>
                  <Badge tone={tone}>{words}</Badge>
                </td>
                <td>
                  <Breakable text={change.from} />
                </td>
                <td>
                  <Breakable text={change.to} />
                </td>
                <td className="number">{change.port}</td>
                <td className="number right">{formatCount(change.connections)}</td>
                <td>{formatAge(change.lastUnixS, now)}</td>
                <td>
                  <Breakable text={becauseOf(change)} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {more > 0 && <p className="soft">and {formatCount(more)} more</p>}
    </div>
  );
}

function becauseOf({ rules, before, byDefault }: PreviewChange): string {
  if (rules.length > 0) return `${byDefault ? "no rule allows it: " : ""}${rules.join(", ")}`;
  return before.length > 0 ? `no longer: ${before.join(", ")}` : "no policy is about it any more";
}
