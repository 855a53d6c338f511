package tokenizer

// o200k cuts by the patterns of Llama 4, gpt-oss and Mistral Nemo: a new word begins where an upper-case letter follows a
// lower-case one. At most so many digits; with contractions, 's and the like belong to the word before them.
func (t *classTable) o200k(text []byte, digits int, contractions bool) int {
	c, n := t.at(text, 0)
	// the character in front of the word is taken if the rest still matches, for each of the two alternatives
	fronts := [2]int{0, 0}
	if c&(letter|number|newline) == 0 {
		fronts[0] = n
	}
	for _, capitals := range [...]bool{false, true} {
		for k, from := range fronts {
			if k == 1 && fronts[0] == 0 {
				break
			}
			if end := t.cased(text, from, capitals); end > 0 {
				if contractions && end < len(text) && text[end] == '\'' {
					end += contraction(text[end:], true)
				}
				return end
			}
		}
	}
	if c&number != 0 {
		return t.digits(text, n, digits)
	}
	if end := t.symbols(text, letter|number|space); end > 0 {
		for end < len(text) && (text[end] == '\r' || text[end] == '\n' || text[end] == '/') {
			end++
		}
		return end
	}
	return t.spaces(text, true)
}

// cased is the end of U*L+ (or U+L* if capitals) from i on; 0: no match. U and L share letters without case and marks, so
// U* gives back what it took beyond the last character that L+ may begin with.
func (t *classTable) cased(text []byte, i int, capitals bool) int {
	if i >= len(text) {
		return 0
	}
	end, shared := i, 0 // shared: the end of the last character of the run that is of both kinds
	for end < len(text) {
		c, n := t.at(text, end)
		if c&upper == 0 {
			break
		}
		end += n
		if c&lower != 0 {
			shared = end
		}
	}
	if low := t.run(text, end, lower); low > end || capitals && end > i {
		return low
	}
	if capitals {
		return 0
	}
	return shared
}
