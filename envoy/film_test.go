package envoy_test

// A film of the demo's story for the README: a GIF of what Chromium showed, small enough to be read on a phone.

import (
	"bytes"
	"cmp"
	pixels "image"
	"image/color"
	"image/gif"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	filmWidth, filmHeight = 960, 800
	filmScale             = 0.8
	filmMax               = 1 << 20 // bytes
	filmColours           = 96
	filmPause             = 130 * time.Millisecond // between two frames
	filmEnd               = 300                    // hundredths of a second, of the last frame
)

// filmFile is where the film goes (make screenshots), "" where none is taken.
func filmFile() string {
	dir := os.Getenv("SESSIONGATE_SCREENSHOTS")
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "demo-story.gif")
}

// frame is a picture as Chromium gives it (PNG), and when it was taken.
type frame struct {
	shot []byte
	at   time.Time
}

// film takes pictures until the story has ended, and writes them as one.
func (d demoPage) film(file string) {
	d.Helper()
	var frames []frame
	for playing := true; playing; {
		playing = eval[string](d.tab, `document.getElementById("demo").dataset.story`) == "playing"
		shot, err := chromedp.Run(d.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			d.Fatal(err)
		}
		if len(frames) == 0 || !bytes.Equal(frames[len(frames)-1].shot, shot) {
			frames = append(frames, frame{shot, time.Now()})
		}
		time.Sleep(filmPause) // a film has a rate
	}
	film, err := develop(frames)
	if err != nil {
		d.Fatal(err)
	}
	if len(film) > filmMax {
		d.Errorf("the film has %d bytes in %d frames, want at most %d", len(film), len(frames), filmMax)
	}
	if err := os.WriteFile(file, film, 0o644); err != nil {
		d.Fatal(err)
	}
	d.Logf("%d frames, %d bytes", len(frames), len(film))
}

// develop makes a GIF. Each frame holds what changed, and is transparent where nothing did: that is what makes it small.
func develop(frames []frame) ([]byte, error) {
	frequency := map[color.RGBA]int{}
	for i := 0; i < len(frames); i += 3 {
		picture, err := decode(frames[i].shot)
		if err != nil {
			return nil, err
		}
		for at := 0; at < len(picture.Pix); at += 4 {
			frequency[color.RGBA{picture.Pix[at], picture.Pix[at+1], picture.Pix[at+2], 255}]++
		}
	}
	palette := color.Palette{color.RGBA{}} // the first is transparent
	for _, c := range fewColours(frequency, filmColours-1) {
		palette = append(palette, c)
	}
	nearest := map[color.RGBA]uint8{}
	index := func(c color.RGBA) uint8 {
		n, ok := nearest[c]
		if !ok {
			n = uint8(palette[1:].Index(c) + 1)
			nearest[c] = n
		}
		return n
	}

	var film gif.GIF
	var shown []uint8
	for i, f := range frames {
		picture, err := decode(f.shot)
		if err != nil {
			return nil, err
		}
		bounds := picture.Bounds()
		now := make([]uint8, bounds.Dx()*bounds.Dy())
		changed := pixels.Rectangle{}
		for at := range now {
			now[at] = index(color.RGBA{picture.Pix[4*at], picture.Pix[4*at+1], picture.Pix[4*at+2], 255})
			if shown == nil || now[at] != shown[at] {
				x, y := at%bounds.Dx(), at/bounds.Dx()
				changed = changed.Union(pixels.Rect(x, y, x+1, y+1))
			}
		}
		delay := filmEnd
		if i+1 < len(frames) {
			delay = int(frames[i+1].at.Sub(f.at) / (10 * time.Millisecond))
		}
		if changed.Empty() {
			film.Delay[len(film.Delay)-1] += delay
			continue
		}
		part := pixels.NewPaletted(changed, palette)
		for y := changed.Min.Y; y < changed.Max.Y; y++ {
			for x := changed.Min.X; x < changed.Max.X; x++ {
				if at := y*bounds.Dx() + x; shown == nil || now[at] != shown[at] {
					part.SetColorIndex(x, y, now[at])
				}
			}
		}
		film.Image, film.Delay, film.Disposal = append(film.Image, part), append(film.Delay, delay), append(film.Disposal, gif.DisposalNone)
		shown = now
	}
	var file bytes.Buffer
	err := gif.EncodeAll(&file, &film)
	return file.Bytes(), err
}

// fewColours are the most frequent ones that differ enough to be told apart: shades of an edge would fill the palette otherwise.
func fewColours(frequency map[color.RGBA]int, most int) []color.RGBA {
	all := slices.SortedFunc(maps.Keys(frequency), func(a, b color.RGBA) int {
		return cmp.Or(frequency[b]-frequency[a], cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	const apart = 18
	distance := func(a, b color.RGBA) int {
		d := func(x, y uint8) int { return max(int(x)-int(y), int(y)-int(x)) }
		return d(a.R, b.R) + d(a.G, b.G) + d(a.B, b.B)
	}
	var kept []color.RGBA
	for _, c := range all {
		if len(kept) == most {
			break
		}
		if len(kept) < most/3 || !slices.ContainsFunc(kept, func(k color.RGBA) bool { return distance(k, c) < apart }) {
			kept = append(kept, c)
		}
	}
	return kept
}

func decode(shot []byte) (*pixels.RGBA, error) {
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return nil, err
	}
	if flat, ok := picture.(*pixels.RGBA); ok {
		return flat, nil
	}
	flat := pixels.NewRGBA(picture.Bounds())
	for y := flat.Rect.Min.Y; y < flat.Rect.Max.Y; y++ {
		for x := flat.Rect.Min.X; x < flat.Rect.Max.X; x++ {
			flat.Set(x, y, picture.At(x, y))
		}
	}
	return flat, nil
}
