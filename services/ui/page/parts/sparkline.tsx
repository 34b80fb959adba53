/**
 * Counts over time in the size of a word: bars, the newest on the right.
 * @module
 */
export function Sparkline({ values, label, width = 120, height = 24 }: {
  values: readonly number[];
  label: string;
  width?: number;
  height?: number;
}) {
  const most = Math.max(1, ...values);
  const step = width / Math.max(1, values.length);
  return (
    <svg className="sparkline" width={width} height={height} role="img" aria-label={label}>
      <line x1="0" x2={width} y1={height - 0.5} y2={height - 0.5} />
      {values.map((value, i) => {
        const tall = value <= 0 ? 0 : Math.max(2, (value / most) * (height - 1));
        return <rect key={i} x={i * step} y={height - tall} width={Math.max(1, step - 1)} height={tall} />;
      })}
    </svg>
  );
}
