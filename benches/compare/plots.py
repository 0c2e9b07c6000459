"""Plots as SVG text."""
import math
from html import escape

WIDTH, MARGIN = 860, 24
FONT = 'font-family="sans-serif" font-size="13"'
OURS, OTHERS, GRID, TEXT = "#1f6feb", "#8c959f", "#d0d7de", "#24292f"


def frame(title, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
            f'<text x="{MARGIN}" y="30" font-family="sans-serif" font-size="16" font-weight="bold" '
            f'fill="{TEXT}">{escape(title)}</text>{body}</svg>\n')


def text(x, y, words, anchor="start", colour=TEXT):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" {FONT}>{escape(words)}</text>'


def bars(title, rows):
    """Rows of name, work and value, on a linear scale."""
    top, step, left = 52, 44, 300
    most = max(value for _, _, value in rows)
    body = ""
    for index, (name, work, value) in enumerate(rows):
        y = top + index * step
        length = (WIDTH - left - MARGIN - 60) * value / most
        colour = OURS if name.startswith("fhir-export") else OTHERS
        body += text(left - 10, y + 13, name, "end")
        body += f'<text x="{left - 10}" y="{y + 28}" text-anchor="end" fill="{OTHERS}" font-family="sans-serif" font-size="10">{escape(work[:58])}</text>'
        body += f'<rect x="{left}" y="{y}" width="{max(length, 1):.1f}" height="26" fill="{colour}"/>'
        body += text(left + length + 8, y + 18, f"{value:.2f}")
    return frame(title, top + len(rows) * step + MARGIN, body)


def line(title, points):
    """Points of bytes and cost: sizes on a logarithmic scale, cost from zero."""
    left, top, height = 70, 60, 380
    bottom, right = height - 50, WIDTH - MARGIN - 20
    low, high = (math.log10(min(x for x, _ in points)), math.log10(max(x for x, _ in points)))
    most = max(y for _, y in points) * 1.15
    place = lambda x, y: (left + (right - left) * (math.log10(x) - low) / (high - low), bottom - (bottom - top) * y / most)
    body = f'<line x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="{TEXT}"/>'
    for step in range(1, 6):
        value = most * step / 5
        _, y = place(points[0][0], value)
        body += f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{GRID}"/>'
        body += text(left - 8, y + 4, f"{value:.2f}", "end")
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    body += f'<polyline points="{path}" fill="none" stroke="{OURS}" stroke-width="2"/>'
    for size, cost in points:
        x, y = place(size, cost)
        label = f"{size / 1e9:.0f} GB" if size >= 0.95e9 else f"{size / 1e6:.0f} MB"
        body += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{OURS}"/>'
        body += text(x, y - 10, f"{cost:.2f}", "middle") + text(x, bottom + 20, label, "middle")
    return frame(title, height, body)
