/**
 * Names and sentences that break between their parts, never within a word.
 * @module
 */
import { Fragment } from "react";
import { breakPieces, withoutFolders } from "../model/prose.ts";

/** A name, such as a label. */
export function Breakable({ text }: { text: string }) {
  return <Pieces pieces={breakPieces(text)} />;
}

/** A sentence of the server. */
export function Prose({ text }: { text: string }) {
  return <Pieces pieces={breakPieces(withoutFolders(text), "sentence")} />;
}

function Pieces({ pieces }: { pieces: readonly string[] }) {
  return pieces.map((piece, index) => (
    <Fragment key={index}>
      {index > 0 && <wbr />}
      {piece}
    </Fragment>
  ));
}
