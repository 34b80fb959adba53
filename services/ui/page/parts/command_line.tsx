/**
 * A command to copy.
 * @module
 */
import { useEffect, useState } from "react";
import { CheckIcon, CopyIcon } from "./icons.tsx";

export function CommandLine({ text, label = "Copy command" }: { text: string; label?: string }) {
  return (
    <div className="command">
      <code>{text}</code>
      <CopyButton text={text} label={label} />
    </div>
  );
}

export function CopyButton({ text, label }: { text: string; label: string }) {
  const [state, setState] = useState<"" | "copied" | "failed">("");
  useEffect(() => {
    if (state === "") return;
    const timer = setTimeout(() => setState(""), 1800);
    return () => clearTimeout(timer);
  }, [state]);
  return (
    <button
      type="button"
      className="button small square"
      aria-label={label}
      title={state === "failed" ? "The browser does not allow it: select the text" : label}
      onClick={() => copy(text).then((done) => setState(done ? "copied" : "failed"))}
    >
      {state === "copied" ? <CheckIcon /> : <CopyIcon />}
      <span className="unseen" role="status">
        {state === "copied" ? "Copied" : state === "failed" ? "Cannot copy" : ""}
      </span>
    </button>
  );
}

/** The clipboard is there for pages of a secure context only; loopback is one, another address over plain HTTP is not. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
