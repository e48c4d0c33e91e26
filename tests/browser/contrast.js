// Text of the page whose contrast is below 4.5 (3 where it is large), as "ratio: text".
() => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
  const paint = canvas.getContext("2d", {willReadFrequently: true});
  const known = new Map();

  // Any notation of a colour, as red, green, blue and alpha.
  function read(colour) {
    if (!known.has(colour)) {
      paint.clearRect(0, 0, 1, 1);
      paint.fillStyle = colour;
      paint.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  }
  const over = (top, below) => [0, 1, 2].map(n => top[n] * top[3] + below[n] * (1 - top[3])).concat(1);
  function ground(element) {
    if (element === null) return [255, 255, 255, 1];
    const own = read(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(element.parentElement));
  }
  function luminance(colour) {
    const [r, g, b] = colour.slice(0, 3).map(each => each / 255)
      .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  function contrast(element, style) {
    const below = ground(element);
    const text = over(read(style.color), below);
    const [dark, light] = [luminance(text), luminance(below)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  }

  const faint = new Map();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const text = walk.currentNode.data.trim();
    if (!text || element.closest("svg, option") || !element.checkVisibility({opacityProperty: true})) continue;
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const found = contrast(element, style);
    const key = `${element.tagName}.${element.className} in ${element.parentElement.className}`;
    if (found < (isLarge ? 3 : 4.5)) faint.set(key, `${found.toFixed(2)}: ${key}: ${text.slice(0, 40)}`);
  }
  return [...faint.values()];
}
